"""Is a model folder whole? Reads headers, never weights, so that it takes seconds for any size."""

from __future__ import annotations

import json
from pathlib import Path

from prior_engine.models.account import counted, gib, phases
from prior_engine.models.info import inspect_model
from tasks.planning.models.memory import largest, told
from tasks.planning.models.source import filled, model_spec
from tasks.settings import Settings


def broken_files(settings: Settings, source: str) -> tuple[list[tuple[Path, str]], str]:
    """The files that are missing or cut off, with the reason, and a line that describes the model."""
    settings = filled(settings)
    info = inspect_model(model_spec(settings, source))
    broken: list[tuple[Path, str]] = []
    for name in info.components:
        part = info.layout.place(name)
        if info.layout.files(name):  # looked at when the model was inspected
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
        broken += [(file, reason) for file in weights if (reason := _cut_off(file)) is not None]
    if broken:
        return broken, f"{settings.model.source}: {info.family.pipeline}"
    parts, waiting = counted(info), settings.accel.offload
    listed = ", ".join(f"{name} {gib(name, part, info, waiting):.2f}" for name, part in parts.items())
    most = told(phases(info, parts, largest(settings), waiting))
    return [], (
        f"{settings.model.source}: {info.family.pipeline}, whole; GiB on the device as it would run: {listed}; "
        f"at most: {most}"
    )


def _cut_off(file: Path) -> str | None:
    """The header of a safetensors file says how long the file is."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return None
    except (SafetensorError, OSError) as error:
        return f"not a whole safetensors file ({error})"
