"""Finds the folder of a model: a local one, or the snapshot of an id on a hub."""

from pathlib import Path

from prior_engine.errors import ModelSourceError
from prior_engine.models.hub import MODELSCOPE, snapshot
from prior_engine.models.spec import ModelSpec
from prior_engine.models.weights.original import is_original


def folder_of(spec: ModelSpec) -> tuple[Path, str | None]:
    """The local folder of the model, and the commit if it came from a hub that names one."""
    folder = Path(spec.source).expanduser()
    if (folder / "model_index.json").is_file() or is_original(folder):
        return folder, None
    if spec.source.startswith(MODELSCOPE):
        # A branch there names no commit, so what is in the files decides.
        return snapshot(spec.source, spec.revision, offline=spec.offline), None
    if folder.exists() or spec.source.startswith((".", "/", "~")) or spec.source.count("/") != 1:
        raise ModelSourceError(
            f"{spec.source!r} holds no model_index.json; name a folder in diffusers layout, one of Wan as its makers publish it, "
            "or an id on a hub: 'owner/name', or 'modelscope:owner/name'"
        )
    found = snapshot(spec.source, spec.revision, offline=spec.offline)
    return found, found.name
