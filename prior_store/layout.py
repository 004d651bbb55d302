"""Where everything lies: the only module that builds store paths.

All paths are relative to the root and use "/", on every backend. The shape is a contract with readers that do not know
this code; docs/reference/format.md says the same byte for byte.
"""

import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from prior_store.errors import BadNameError, KeyNotFoundError

PRIORS: Final = "priors"
VARIANTS: Final = "variants"
KINDS: Final = (PRIORS, VARIANTS)

STORE: Final = "STORE.json"
COMMIT: Final = "COMMIT.json"
LOG: Final = "manifest/log"
BASE: Final = "manifest/base"
EMBEDDINGS: Final = "embeddings"
BATCHES: Final = "batches"
QUARANTINE: Final = "quarantine"
PROBE: Final = "probe-"
ROOMS: Final = (PRIORS, VARIANTS, "manifest", EMBEDDINGS, BATCHES, QUARANTINE)
"""Every folder that a store root may hold."""

_KEY = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
_CLAIM = re.compile(r"claim-(\d{8})\.json\Z")
_STEP = re.compile(r"step_(\d+)\.safetensors\Z")
_FRAGMENT = re.compile(r"(\d{17})-[0-9a-f]+\.parquet\Z")
_TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp\Z")


def checked_kind(kind: str) -> str:
    """Refuse a kind that the store does not keep."""
    if kind not in KINDS:
        raise BadNameError(f"kind {kind!r} is not known; choose one of {sorted(KINDS)}")
    return kind


def checked_key(key: str) -> str:
    """Refuse what is not a whole key; a prefix is resolved by `Store.find` first."""
    if not is_key(key):
        raise KeyNotFoundError(f"{key!r} is not a key; a key is 64 hex digits, made by recipe_key")
    return key


def is_key(text: str) -> bool:
    """Tell whether a name is a whole key."""
    return bool(_KEY.match(text))


def checked_name(name: str) -> str:
    """Refuse a file or batch name that could leave its folder or be hard to write on some backend."""
    if not _NAME.match(name):
        raise BadNameError(
            f"name {name!r} cannot be a file in the store; use letters, digits, '.', '_' and '-', starting with a letter "
            "or a digit"
        )
    return name


def object_dir(kind: str, key: str) -> str:
    """Give the folder of all that concerns one key."""
    return f"{checked_kind(kind)}/{checked_key(key)[:2]}/{key}"


def commit_path(kind: str, key: str) -> str:
    """Give the place of the record whose creation is the commit."""
    return f"{object_dir(kind, key)}/{COMMIT}"


def claim_path(kind: str, key: str, generation: int) -> str:
    """Give the place of the lease of one generation."""
    return f"{object_dir(kind, key)}/claim-{generation:08d}.json"


def heartbeat_path(kind: str, key: str, generation: int) -> str:
    """Give the place of the only file that is ever overwritten."""
    return f"{object_dir(kind, key)}/hb-{generation:08d}.json"


def new_attempt(generation: int) -> str:
    """Invent the folder name of one attempt; its first digits tell the lease it was written under."""
    return f"a{generation:08d}-{secrets.token_hex(8)}"


def attempt_path(kind: str, key: str, attempt: str, name: str) -> str:
    """Give the place of one file of an attempt."""
    return f"{object_dir(kind, key)}/{checked_name(attempt)}/{checked_name(name)}"


def embedding_path(key: str) -> str:
    """Give the place of one text embedding."""
    return f"{EMBEDDINGS}/{checked_key(key)[:2]}/{key}.safetensors"


def batch_path(batch: str, name: str) -> str:
    """Give the place of one file of a batch."""
    return f"{BATCHES}/{checked_name(batch)}/{checked_name(name)}"


def fragment_path(folder: str, clock: Callable[[], int] = time.time_ns) -> str:
    """Invent a manifest file name: microseconds in 17 digits, so that names sort by time, and a random tail."""
    return f"{folder}/{clock() // 1000:017d}-{secrets.token_hex(6)}.parquet"


def fragment_time(name: str) -> int:
    """Read the microseconds back from the name of a manifest file, 0 for other files."""
    found = _FRAGMENT.match(name)
    return int(found[1]) if found else 0


def probe_path() -> str:
    """Invent the name of a file in the root that is there for a moment only."""
    return f"{PROBE}{secrets.token_hex(8)}.json"


def step_name(step: int) -> str:
    """Name the snapshot after step k."""
    return f"step_{step:04d}.safetensors"


def step_of(name: str) -> int | None:
    """Read k back from the name of a snapshot, None for other files."""
    found = _STEP.match(name)
    return int(found[1]) if found else None


def claim_generation(name: str) -> int | None:
    """Read the generation back from the name of a lease."""
    found = _CLAIM.match(name)
    return int(found[1]) if found else None


def is_temporary(name: str) -> bool:
    """Tell the half-written files that a kill leaves on a local disk."""
    return bool(_TEMPORARY.match(name))


def temporary_name(name: str) -> str:
    """Invent the name under which a file is written before it gets its own; it begins with a dot and ends in .tmp."""
    return f".{name}.{secrets.token_hex(8)}.tmp"
