"""Finds the folder behind a model setting: the embedded demo, the tiny random one, or what the user named."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import PlanError
from tasks.settings import ModelSettings

DEMO_WEIGHTS = Path(__file__).resolve().parent.parent / "demo" / "weights"


def model_folder(settings: ModelSettings) -> str:
    """A diffusers folder or a hub id."""
    if settings.source == "demo":
        wanted = "i2v" if settings.pipeline == "WanImageToVideoPipeline" else "t2v"
        folder = DEMO_WEIGHTS / wanted
        if not (folder / "model_index.json").exists():
            raise PlanError(
                f"the demo model's files are not at {str(folder)!r}; install Headstart whole, or name another model"
            )
        return str(folder)
    return settings.source
