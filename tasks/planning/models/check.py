"""Is a model folder whole? Reads headers, never weights, so that it takes seconds for any size."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from prior_engine.models.account import counted, phases
from prior_engine.models.info import ModelInfo, inspect_model
from prior_engine.models.weights.parts import shapes_of
from tasks.planning.models.memory import largest, told
from tasks.planning.models.source import model_spec
from tasks.settings import Settings

GIB = 2**30


def broken_files(settings: Settings, source: str) -> tuple[list[tuple[Path, str]], str]:
    """The files that are missing or cut off, with the reason, and a line that describes the model."""
    info = inspect_model(model_spec(settings, source))
    broken: list[tuple[Path, str]] = []
    held: dict[str, float] = {}
    for name in info.components:
        part = info.layout.place(name)
        if info.layout.files(name):  # looked at when the model was inspected
            held[name] = _in_memory(name, info.layout.files(name), info)
            continue
        if not part.is_dir() and name not in info.layout.configs:
            broken.append((part, "the folder of this component is missing"))
            continue
        for index in part.glob("*.safetensors.index.json"):
            shards = set(json.loads(index.read_text())["weight_map"].values())
            broken += [
                (part / shard, "named by the index and missing")
                for shard in sorted(shards)
                if not (part / shard).is_file()
            ]
        weights = sorted(part.glob("*.safetensors"))
        if (part / "config.json").is_file() and not weights:
            broken.append((part, "no weights (*.safetensors) in it"))
        torn = [(file, reason) for file in weights if (reason := _cut_off(file)) is not None]
        broken += torn
        if weights and not torn:
            held[name] = _in_memory(name, weights, info)
    listed = ", ".join(f"{name} {size:.2f}" for name, size in held.items())
    line = f"{settings.model.source}: {info.family.pipeline}, whole; GiB in memory as it would run: {listed}"
    if not broken:
        taken = phases(info, counted(info), largest(settings), settings.accel.offload)
        line += f"; on the device at most: {told(taken)}"
    return broken, line


def _in_memory(name: str, files: Sequence[Path], info: ModelInfo) -> float:
    """What a component's weights take on the device, in GiB: counted from the headers, at the precision of the run."""
    if name == "vae" and info.family.vae_in_float32:
        each = 4
    elif name.startswith("transformer") and info.quantization is not None:
        each = 1
    else:
        each = 4 if info.dtype == "float32" else 2
    return sum(math.prod(shape) for file in files for shape in shapes_of(file).values()) * each / GIB


def _cut_off(file: Path) -> str | None:
    """The header of a safetensors file says how long the file is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return None
    except (SafetensorError, OSError) as error:
        return f"not a whole safetensors file ({error})"
