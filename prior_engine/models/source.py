"""Finds the folder of a model: a local one, or the snapshot of a hub id."""

from pathlib import Path

from prior_engine.errors import ModelSourceError
from prior_engine.models.hub import snapshot
from prior_engine.models.spec import ModelSpec
from prior_engine.models.weights.original import is_original


def folder_of(spec: ModelSpec) -> tuple[Path, str | None]:
    """The local folder of the model, and the commit if it came from a hub."""
    folder = Path(spec.source).expanduser()
    if (folder / "model_index.json").is_file() or is_original(folder):
        return folder, None
    if folder.exists() or spec.source.startswith((".", "/", "~")) or spec.source.count("/") != 1:
        raise ModelSourceError(
            f"{spec.source!r} holds no model_index.json; name a folder in diffusers layout, one of Wan as its makers publish it, "
            "or a hub id 'owner/name'"
        )
    found = snapshot(spec.source, spec.revision, offline=spec.offline)
    return found, found.name
