"""Does the model fit the device? Counted before anything is loaded, and made to fit where a bound is set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from prior_engine.models.account import GIB, Phase, Size, counted, phases
from prior_engine.models.info import ModelInfo
from prior_engine.models.weights.quantized import WAYS
from tasks.errors import PlanError
from tasks.planning.models.source import devices_of
from tasks.settings import Settings
from tasks.sheets.rows import Sheet

# What the books do not know: the runtime's own memory, holes between pieces.
MARGIN = 1.2
# From the one that costs nothing to the one that changes most: the first two give the same bits.
ARRANGEMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"offload": "group"},
    {"offload": "group", "vae_tiling": True},
    {"offload": "group", "vae_tiling": True, "quantization": "float8_e4m3fn"},
)


def largest(settings: Settings, sheet: Sheet | None = None) -> Size:
    """The largest video of the batch, or the one that the settings describe."""
    height, width, frames = settings.model.size
    sizes = {(height, width, frames)}
    if sheet is not None and sheet.rows:
        sizes = {(row.height or height, row.width or width, row.frames or frames) for row in sheet.rows}
    height, width, frames = max(sizes, key=lambda size: size[0] * size[1] * size[2])
    return Size(height=height, width=width, frames=frames)


def books(settings: Settings, info: ModelInfo, sheet: Sheet | None = None) -> tuple[Phase, ...]:
    """What each phase of a run takes, as the settings are."""
    return phases(info, counted(info), largest(settings, sheet), settings.accel.offload)


def made_to_fit(settings: Settings, info: ModelInfo, sheet: Sheet) -> tuple[Settings, ModelInfo]:
    """Settings and model with what keeps a run within `accel.budget`; it depends on the model and the sheet alone."""
    budget = settings.accel.budget
    if budget is None:
        return settings, info
    parts, size, own = counted(info), largest(settings, sheet), settings.accel
    # Weights that are packed already are not packed again.
    possible = [one for one in ARRANGEMENTS if "quantization" not in one or not info.layout.packed]
    for arrangement in possible:
        # What was asked for stays; it is only added to.
        asked = {"quantization": own.quantization} if own.quantization is not None else {}
        accel = own.model_copy(update=arrangement | asked)
        if accel.offload != "none" and accel.quantization is not None and not WAYS[accel.quantization].waits:
            continue
        seen = replace(info, quantization=accel.quantization, vae_tiling=accel.vae_tiling)
        taken = phases(seen, parts, size, accel.offload)
        if most(taken) * MARGIN <= budget:
            return settings.model_copy(update={"accel": accel}), seen
    raise PlanError(
        f"accel.budget={budget:g}: this model needs {most(taken) * MARGIN:.1f} GiB for {size.width}x{size.height}, {size.frames} frames, "
        f"with all that saves memory ({told(taken)}); make smaller videos, or allow more"
    )


def check_room(settings: Settings, info: ModelInfo, sheet: Sheet) -> None:
    """Refuse what cannot fit into a device that this batch may use."""
    named = [device for device in devices_of(settings) if device.startswith("cuda")]
    if not named:
        return
    taken = books(settings, info, sheet)
    for device in named:
        room = room_on(device)
        if most(taken) > room:
            raise PlanError(
                f"{device} has {room:.1f} GiB, and this model needs {most(taken):.1f} as the settings are ({told(taken)}); "
                f"set accel.budget={room:.0f}, which chooses what saves memory, or make smaller videos"
            )


def room_on(device: str) -> float:
    """All of a device's memory, in GiB."""
    import torch

    return float(torch.cuda.get_device_properties(device).total_memory) / GIB


def most(taken: Iterable[Phase]) -> float:
    """The largest phase."""
    return max(phase.total for phase in taken)


def told(taken: Iterable[Phase]) -> str:
    """`prompts 11.1, denoising 31.7, decoding 37.1 GiB`; what is not known is said."""
    listed = [
        f"{phase.name} {phase.total:.{1 if phase.total >= 1 else 2}f}"
        + ("" if phase.work is not None else " and its work")
        for phase in taken
    ]
    return ", ".join(listed) + " GiB"
