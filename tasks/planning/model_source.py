"""Finds the folder behind a model setting: the embedded demo, the tiny random one, or what the user named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import PlanError
from tasks.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from tasks.sheets.rows import Sheet

IMAGE_TO_VIDEO = "WanImageToVideoPipeline"
DEMO_WEIGHTS = Path(__file__).resolve().parents[2] / "demo" / "weights"


def fitted(settings: Settings, sheet: Sheet) -> Settings:
    """The demo model is two pipelines of one training: a sheet with pictures takes the one that starts from them."""
    model = settings.model
    if model.source != "demo" or model.pipeline is not None or not any(row.image for row in sheet.rows):
        return settings
    return settings.model_copy(update={"model": model.model_copy(update={"pipeline": IMAGE_TO_VIDEO})})


def model_folder(settings: ModelSettings) -> str:
    """A diffusers folder or a hub id."""
    if settings.source == "demo":
        wanted = "i2v" if settings.pipeline == IMAGE_TO_VIDEO else "t2v"
        folder = DEMO_WEIGHTS / wanted
        if not (folder / "model_index.json").exists():
            raise PlanError(
                f"the demo model's files are not at {str(folder)!r}; install Headstart whole, or name another model"
            )
        return str(folder)
    return settings.source
