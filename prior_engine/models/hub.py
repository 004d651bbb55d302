"""What lies on a hub: all of a model, or the files of one that a pattern names."""

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from prior_engine.errors import ModelSourceError

# Stands before an id on ModelScope; ids without it are on Hugging Face.
MODELSCOPE = "modelscope:"
# `owner/name:pattern`, or `owner/name@revision:pattern`.
_FILES = re.compile(rf"((?:{MODELSCOPE})?[\w.-]+/[\w.-]+)(?:@([\w./-]+))?:([^:]+)")


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
    """The local folder of what a hub has; on Hugging Face its name is the commit."""
    fetch = _of_modelscope if name.startswith(MODELSCOPE) else _of_hugging_face
    try:
        return fetch(name.removeprefix(MODELSCOPE), revision, offline=offline, pattern=pattern)
    except ModelSourceError:
        raise
    except (OSError, ValueError) as problem:
        named = repr(name) if revision is None else f"{name!r} (revision {revision!r})"
        why = (
            "it is not in the local hub cache and offline is set; download it first, or set model.offline=false"
            if offline
            else "the hub did not give it; check the name, the revision and the network"
        )
        raise ModelSourceError(f"the model {named} cannot be opened: {why}") from problem


def _of_hugging_face(name: str, revision: str | None, *, offline: bool, pattern: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(name, revision=revision, local_files_only=offline, allow_patterns=pattern and [pattern])
    )


def _of_modelscope(name: str, revision: str | None, *, offline: bool, pattern: str | None) -> Path:
    if find_spec("modelscope_hub") is None:
        raise ModelSourceError(
            f"'{MODELSCOPE}{name}' is fetched by the package modelscope-hub, which is not installed; "
            "pip install 'headstart-video[modelscope]'"
        )
    from modelscope_hub import HubApi
    from modelscope_hub.errors import HubError

    api, wanted = HubApi(), [pattern] if pattern else None
    try:
        if offline:
            return api.download_repo(name, "model", revision=revision, local_files_only=True)
        listed = [
            {"Path": file.path, "Type": file.type, "Size": file.size, "Sha256": file.sha256}
            for file in api.list_repo_files(name, "model", revision=revision)
        ]
        _check_inside(name, (str(file["Path"]) for file in listed))
        return api.download_repo(name, "model", revision=revision, allow_patterns=wanted, file_list=listed)
    except HubError as problem:
        raise OSError(str(problem)) from problem


def _check_inside(name: str, paths: Iterable[str]) -> None:
    """The client would write a file wherever the hub says, and what the hub says comes from anybody."""
    for path in paths:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path or ":" in path:
            raise ModelSourceError(
                f"'{MODELSCOPE}{name}' has a file {path!r}, which would lie outside its folder; nothing was fetched"
            )
