"""What lies on a hub: all of a model, or the files of one that a pattern names."""

import re
from pathlib import Path

from prior_engine.errors import ModelSourceError

# `owner/name:pattern`, or `owner/name@revision:pattern`.
_FILES = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?:([^:]+)")


def names_files(text: str) -> bool:
    """Whether it is an id with a pattern, as other programs write it too."""
    return _FILES.fullmatch(text) is not None


def files_of(text: str, *, offline: bool) -> list[Path]:
    """The files that an id with a pattern names; of a hub nothing else is fetched."""
    found = _FILES.fullmatch(text)
    if found is None:
        raise ModelSourceError(f"{text!r} names no files of a hub; write 'owner/name:pattern'")
    name, revision, pattern = found.groups()
    folder = snapshot(name, revision, offline=offline, pattern=pattern)
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        where = "in the local hub cache" if offline else "on the hub"
        how = "; download it first, or set model.offline=false" if offline else ""
        raise ModelSourceError(f"{name!r} has no file {pattern!r} {where}{how}")
    return files


def snapshot(name: str, revision: str | None, *, offline: bool, pattern: str | None = None) -> Path:
    """The local folder of a commit; its name is the commit."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, local_files_only=offline, allow_patterns=pattern and [pattern])
        )
    except (OSError, ValueError) as problem:
        named = repr(name) if revision is None else f"{name!r} (revision {revision!r})"
        why = (
            "it is not in the local hub cache and offline is set; download it first, or set model.offline=false"
            if offline
            else "the hub did not give it; check the name, the revision and the network"
        )
        raise ModelSourceError(f"the model {named} cannot be opened: {why}") from problem
