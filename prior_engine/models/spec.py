"""Which model, where and how it runs; and what its files say about it, read without torch and without weights."""

import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError, RequestError, UnsupportedError
from prior_engine.models.families import FAMILIES, Family, family_of, refusal_of
from prior_engine.models.fingerprint import fingerprint

log = logging.getLogger(__name__)

DTYPES = ("auto", "bfloat16", "float16", "float32")
# torch's own; named, so that an environment variable cannot change results behind a recipe's back.
DEFAULT_ATTENTION = "native"
OFFLOADS = ("none", "group")
CASTINGS = (None, "float8_e4m3fn", "float8_e5m2")
# NVIDIA, NVIDIA's small boards, Windows' Linux, AMD.
_GPU_FILES = ("nvidia*", "nvhost*", "dxg", "kfd")
_TEXT_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


def _one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name}={value!r} is not known; choose one of {sorted(map(str, choices))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Where a model lies and how it is to be run.

    `dtype`, `quantization` and `attention_backend` change results and are told in every recipe;
    `device` and `offload` only change where the work is done.
    """

    source: str
    revision: str | None = None
    pipeline: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    offline: bool = True
    attention_backend: str | None = None
    deterministic: bool = True
    quantization: str | None = None
    offload: str = "none"
    vae_tiling: bool = False

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise RequestError("the model has an empty source; name a local diffusers folder or a hub id")
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("offload", self.offload, OFFLOADS)
        _one_of("quantization", self.quantization, CASTINGS)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelInfo:
    """What a model folder says about itself: family, sizes it takes, its own scheduler, its fingerprint."""

    folder: Path
    family: Family
    components: Mapping[str, tuple[str, str]]
    size_multiple: int
    frame_multiple: int
    scheduler_class: str
    scheduler_config: Mapping[str, Any]
    boundary_ratio: float | None
    expand_timesteps: bool
    has_image_encoder: bool
    dtype: str
    quantization: str | None
    attention_backend: str
    vae_tiling: bool
    fingerprint: str
    text_fingerprint: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pipeline(self) -> str:
        return self.family.pipeline

    @property
    def is_flow(self) -> bool:
        """Whether the model was trained for flow matching, so that shifts and sigma grids mean something to it."""
        return self.scheduler_class.startswith("FlowMatch") or bool(self.scheduler_config.get("use_flow_sigmas"))

    @property
    def fps(self) -> int:
        return self.family.fps

    @property
    def max_sequence_length(self) -> int:
        return self.family.default_length

    def describe(self) -> dict[str, Any]:
        """What of the model decides a result, for recipes: no paths, no hosts."""
        return {
            "family": self.family.name,
            "pipeline": self.pipeline,
            "fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "attention_backend": self.attention_backend,
            "boundary_ratio": self.boundary_ratio,
            "expand_timesteps": self.expand_timesteps,
            "vae_tiling": self.vae_tiling,
        }


def resolve_device(device: str) -> str:
    """`auto` is the best that this machine has; anything else is taken at its word."""
    if device != "auto":
        return device
    if not _may_have_gpu():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _may_have_gpu() -> bool:
    """Tell what needs no torch to know: on Linux a GPU is a device file, and asking torch costs two seconds."""
    if sys.platform != "linux":
        return True
    return any(next(Path("/dev").glob(pattern), None) for pattern in _GPU_FILES)


def resolve_dtype(dtype: str, device: str) -> str:
    """bf16 where the hardware has it, fp32 on a CPU, unless the settings pin one."""
    if dtype != "auto":
        return dtype
    return "float32" if device.startswith("cpu") else "bfloat16"


def inspect_model(spec: ModelSpec) -> ModelInfo:
    """Read what the model says about itself; no weights enter memory."""
    device = resolve_device(spec.device) if spec.dtype == "auto" else spec.device
    dtype = resolve_dtype(spec.dtype, device)
    folder, commit = _folder(spec)
    index = _read_json(folder / "model_index.json")
    family = _family(spec.pipeline or str(index.get("_class_name")))
    components = {
        name: (value[0], value[1]) for name, value in index.items() if _is_component(value) and None not in value
    }
    vae = _read_json(folder / "vae" / "config.json")
    transformer = _read_json(
        folder / ("transformer" if "transformer" in components else "transformer_2") / "config.json"
    )
    scheduler = _read_json(folder / "scheduler" / "scheduler_config.json")
    spatial, temporal = _vae_factors(vae)
    patch = transformer.get("patch_size", 1)
    whole = fingerprint(folder) if commit is None else f"{spec.source}@{commit}"
    text_parts = [part for part in _TEXT_PARTS if part in components]
    return ModelInfo(
        folder=folder,
        family=family,
        components=components,
        size_multiple=family.size_multiple or spatial * (patch[-1] if isinstance(patch, list) else patch),
        frame_multiple=family.frame_multiple or temporal,
        scheduler_class=str(scheduler.get("_class_name")),
        scheduler_config={name: value for name, value in scheduler.items() if not name.startswith("_")},
        boundary_ratio=index.get("boundary_ratio"),
        expand_timesteps=bool(index.get("expand_timesteps", False)),
        has_image_encoder="image_encoder" in components,
        dtype=dtype,
        quantization=spec.quantization,
        attention_backend=spec.attention_backend or DEFAULT_ATTENTION,
        vae_tiling=spec.vae_tiling,
        fingerprint=whole,
        settings={
            name: value for name, value in index.items() if not name.startswith("_") and not _is_component(value)
        },
        text_fingerprint=fingerprint(folder, text_parts) if commit is None else whole,
    )


def _is_component(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _folder(spec: ModelSpec) -> tuple[Path, str | None]:
    """The local folder of the model, and the commit if it came from a hub."""
    folder = Path(spec.source).expanduser()
    if (folder / "model_index.json").is_file():
        return folder, None
    if folder.exists() or spec.source.startswith((".", "/", "~")) or spec.source.count("/") != 1:
        raise ModelSourceError(
            f"{spec.source!r} holds no model_index.json; name a folder in diffusers layout or a hub id 'owner/name'"
        )
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(spec.source, revision=spec.revision, local_files_only=spec.offline))
    except (OSError, ValueError) as problem:
        how = "it is not in the local hub cache and offline is set" if spec.offline else "the hub did not give it"
        raise ModelSourceError(
            f"the model {spec.source!r} (revision {spec.revision!r}) cannot be opened: {how}; "
            "download it first, or set offline=false"
        ) from problem
    return found, found.name


def _family(pipeline: str) -> Family:
    family = family_of(pipeline)
    if family is not None:
        return family
    reason = refusal_of(pipeline)
    if reason is not None:
        raise UnsupportedError(f"the pipeline {pipeline!r} cannot be resumed exactly: {reason}")
    raise UnsupportedError(
        f"the pipeline {pipeline!r} is not supported; choose one of {sorted(known.pipeline for known in FAMILIES)}"
    )


def _vae_factors(vae: Mapping[str, Any]) -> tuple[int, int]:
    if "scale_factor_spatial" in vae:
        return int(vae["scale_factor_spatial"]), int(vae.get("scale_factor_temporal", 1))
    return 8, 4


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelSourceError(f"the model has no {path.parent.name}/{path.name}; is the download whole?") from None
    except ValueError as problem:
        raise ModelSourceError(
            f"{path.parent.name}/{path.name} is not JSON ({problem}); is the download whole?"
        ) from None
    return found
