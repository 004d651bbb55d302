"""Finds the folder behind a model setting: the embedded demo, the tiny random one, or what the user named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prior_engine.errors import EngineError
from prior_engine.models.families import Family
from prior_engine.models.info import ModelInfo, family_at, inspect_model
from prior_engine.models.spec import ModelSpec, resolve_device, resolve_dtype
from tasks.errors import PlanError
from tasks.planning.models.attention import best_attention
from tasks.planning.models.shelf import on_shelf, root_of
from tasks.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from tasks.sheets.rows import Sheet

DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
IMAGE_TO_VIDEO = "WanImageToVideoPipeline"
AUTO = "auto"
OF_THE_FAMILY = {
    "height": "height",
    "width": "width",
    "frames": "frames",
    "guidance": "default_guidance",
    "fps": "fps",
}
DEMO_WEIGHTS = Path(__file__).resolve().parents[3] / "demo" / "weights"


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
                f"the demo model's files are not at {str(folder)!r}; reinstall Headstart, or name another model"
            )
        return str(folder)
    return settings.source if settings.revision else on_shelf(settings, settings.source)


def model_spec(settings: Settings, source: str, device: str = "auto") -> ModelSpec:
    """The engine's view of the model settings; `source` is already a folder or a hub id."""
    model, accel = settings.model, settings.accel
    return ModelSpec(
        source=source,
        revision=model.revision,
        pipeline=model.pipeline,
        dtype=DTYPES[model.dtype],
        device=device,
        offline=model.offline,
        attention_backend=accel.attention_backend,
        deterministic=accel.deterministic,
        offload=accel.offload,
        quantization=accel.quantization,
        text_quantization=accel.text_quantization,
        vae_tiling=accel.vae_tiling,
        merge_guidance=accel.merge_guidance,
        compiled=accel.compiled,
        parts=tuple(
            (name, tuple(on_shelf(model, path) for path in ([paths] if isinstance(paths, str) else paths)))
            for name, paths in sorted(model.parts.items())
        ),
    )


def devices_of(settings: Settings) -> tuple[str, ...]:
    """The devices that this batch may use on this machine."""
    named = settings.runner.devices
    if named != "auto":
        return (named,) if isinstance(named, str) else tuple(named)
    best = resolve_device("auto")
    if best != "cuda":
        return (best,)
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def spec_for(settings: Settings, device: str | None = None) -> ModelSpec:
    """The model as it runs here. One dtype on all devices: it is in every key, and a key names one result."""
    first = devices_of(settings)[0]
    spec = model_spec(settings, model_folder(settings.model), device or first)
    return replace(spec, dtype=resolve_dtype(spec.dtype, first))


def settled(settings: Settings) -> Settings:
    """The settings with what model and devices decide written out, so that every other machine decides alike."""
    names = {long: short for short, long in DTYPES.items()}
    settings = filled(settings)
    model, accel = settings.model, settings.accel
    model = model.model_copy(update={"dtype": names[spec_for(settings).dtype]})
    if accel.attention_backend == AUTO:
        best = best_attention(_family(settings), devices_of(settings)[0])
        accel = accel.model_copy(update={"attention_backend": best})
    return settings.model_copy(update={"model": model, "accel": accel})


def known(settings: Settings) -> ModelInfo:
    """What the model's files say, read once for a batch; weights are not."""
    try:
        return inspect_model(spec_for(settings))
    except EngineError as error:
        raise _told(settings, error) from error


def left_open(model: ModelSettings) -> list[str]:
    """The settings that are left to the kind of model that is there."""
    return [name for name in OF_THE_FAMILY if getattr(model, name) is None]


def filled(settings: Settings) -> Settings:
    """The settings with what is left to the kind of model written out."""
    family = _family(settings)
    found = {name: getattr(family, OF_THE_FAMILY[name]) for name in left_open(settings.model)}
    return settings.model_copy(update={"model": settings.model.model_copy(update=found)})


def _family(settings: Settings) -> Family:
    try:
        return family_at(model_spec(settings, model_folder(settings.model)))
    except EngineError as error:
        raise _told(settings, error) from error


def _told(settings: Settings, error: EngineError) -> PlanError:
    model, shelf = settings.model, root_of(settings.model)
    looked = shelf is not None and model_folder(model) == model.source and "/" in model.source
    beside = (
        f"; nor is there {str(shelf / model.source)!r}" if looked and shelf is not None and not model.revision else ""
    )
    return PlanError(f"model.source={model.source!r}: {error}{beside}")


def check_devices(settings: Settings) -> None:
    """Refuse devices that this machine has not, before anything is loaded on them."""
    named = [device for device in devices_of(settings) if device.startswith("cuda")]
    if not named:
        return
    import torch

    count = torch.cuda.device_count()
    missing = [device for device in named if int(device.partition(":")[2] or 0) >= count]
    if missing:
        have = f"torch finds {count} CUDA devices" if count else "torch finds no CUDA device"
        raise PlanError(
            f"runner.devices names {', '.join(missing)} and {have} on this machine; "
            "set runner.devices=cpu, or leave it out to take the best there is"
        )
