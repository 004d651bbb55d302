"""Bring what another store holds into this one: the same keys, the same bytes, each object whole or absent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prior_store import layout
from prior_store.care.inventory import take_inventory
from prior_store.errors import DamagedError, StoreError
from prior_store.manifest import schema
from prior_store.objects.commit import Commit
from prior_store.objects.holdings import Holdings

_CHUNK: Final = 200
_OF_THE_PLACE: Final = frozenset({"latents_uri", "video_uri", "preview_uri", "created_at", "recorded_at"})
"""Columns that say where and when an object lies in its store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What came over, what was there already, and what could not be taken and why."""

    priors: int = 0
    variants: int = 0
    embeddings: int = 0
    there: int = 0
    bytes: int = 0
    refused: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Give what a command should exit with."""
        return 1 if self.refused else 0


def import_all(store: Holdings, source: Holdings) -> Imported:
    """Take every committed object and embedding of `source` that is not here; run it again and it takes the rest."""
    counts: dict[str, int] = dict.fromkeys(("priors", "variants", "embeddings", "there", "bytes"), 0)
    refused: list[str] = []
    for kind in layout.KINDS:
        inventory = take_inventory(source.files, kind)
        refused += [problem.text for problem in inventory.broken]
        for chunk in _chunks(list(inventory.commits.values())):
            rows: list[Mapping[str, Any]] = []
            try:
                for commit in chunk:
                    try:
                        row = _taken(store, source, commit)
                    except StoreError as error:
                        refused.append(f"{kind}/{commit.key[:12]}: {error}")
                        continue
                    counts["there" if row is None else kind] += 1
                    if row is not None:
                        rows.append(row)
                        counts["bytes"] += commit.total_bytes
            finally:
                store.add_rows(rows)
    for path in source.files.find(layout.EMBEDDINGS):
        key = path.rsplit("/", 1)[-1].removesuffix(".safetensors")
        if layout.is_key(key) and path == layout.embedding_path(key):
            try:
                counts["embeddings" if _embedding_taken(store, source, key) else "there"] += 1
            except StoreError as error:
                refused.append(str(error))
    return Imported(**counts, refused=tuple(refused))


def _taken(store: Holdings, source: Holdings, commit: Commit) -> Mapping[str, Any] | None:
    """Publish a copy of one object, and give its row; None if it is here."""
    if store.commit_of(commit.kind, commit.key) is not None:
        return None
    with store.claim(commit.kind, commit.key) as claim:
        if claim.commit is not None:
            return None
        for name, info in commit.files.items():
            # A file on this machine is read where it lies; from elsewhere it has to come into memory.
            content = source.local_path_of(commit, name) or source.read_file(commit, name)
            if claim.put_file(name, content, storage_dtype=info.storage_dtype).sha256 != info.sha256:
                raise DamagedError(
                    f"{name} does not have the committed sha256; run `headstart store repair` on {source.url}"
                )
        # A row of a newer release may hold columns that this one does not know.
        row = {name: value for name, value in commit.row.items() if name in schema.NAMES - _OF_THE_PLACE}
        return claim.publish(
            recipe=commit.recipe,
            pins=commit.pins,
            timings=commit.timings,
            versions=commit.versions,
            row=row,
            defer_row=True,
        ).row


def _embedding_taken(store: Holdings, source: Holdings, key: str) -> bool:
    if store.files.size(layout.embedding_path(key)) is not None:
        return False
    found = source.get_embedding(key)
    if found is not None:
        store.put_embedding(key, *found)
    return found is not None


def _chunks(commits: list[Commit]) -> Iterator[list[Commit]]:
    for start in range(0, len(commits), _CHUNK):
        yield commits[start : start + _CHUNK]
