"""Finds the folder of a model: a local one, or the snapshot of a hub id."""

from pathlib import Path

from prior_engine.errors import ModelSourceError
from prior_engine.models.spec import ModelSpec
from prior_engine.models.weights.original import is_original


def folder_of(spec: ModelSpec) -> tuple[Path, str | None]:
    """The local folder of the model, and the commit if it came from a hub."""
    folder = Path(spec.source).expanduser()
    if (folder / "model_index.json").is_file() or is_original(folder):
        return folder, None
    if folder.exists() or spec.source.startswith((".", "/", "~")) or spec.source.count("/") != 1:
        raise ModelSourceError(
            f"{spec.source!r} holds no model_index.json; name a folder in diffusers layout, one of Wan 2.1 as its makers publish it, "
            "or a hub id 'owner/name'"
        )
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(spec.source, revision=spec.revision, local_files_only=spec.offline))
    except (OSError, ValueError) as problem:
        named = repr(spec.source) if spec.revision is None else f"{spec.source!r} (revision {spec.revision!r})"
        why = (
            "it is not in the local hub cache and offline is set; download it first, or set model.offline=false"
            if spec.offline
            else "the hub did not give it; check the name, the revision and the network"
        )
        raise ModelSourceError(f"the model {named} cannot be opened: {why}") from problem
    return found, found.name
