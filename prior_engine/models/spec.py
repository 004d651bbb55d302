"""Where a model lies and how it is to be run; and what `auto` means on this machine."""

import sys
from dataclasses import dataclass
from pathlib import Path

from prior_engine.errors import RequestError
from prior_engine.models.weights.quantized import WAYS

DTYPES = ("auto", "bfloat16", "float16", "float32")
# torch's own; named, so that an environment variable cannot change results behind a recipe's back.
DEFAULT_ATTENTION = "native"
OFFLOADS = ("none", "group")
# NVIDIA, NVIDIA's small boards, Windows' Linux, AMD.
_GPU_FILES = ("nvidia*", "nvhost*", "dxg", "kfd")


def _one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name}={value!r} is not known; choose one of {sorted(map(str, choices))}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """Where a model lies and how it is to be run.

    `device` and `offload` only change where the work is done; the others may change results, and are told in recipes.
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
    text_quantization: str | None = None
    offload: str = "none"
    vae_tiling: bool = False
    # The guided and the unguided pass of a step as one of twice the size.
    merge_guidance: bool = False
    # The transformer's blocks, on first use.
    compiled: bool = False
    # Components whose weights lie elsewhere: name, and paths or patterns of its files, or one folder.
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise RequestError("the model has an empty source; name a local diffusers folder or a hub id")
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("offload", self.offload, OFFLOADS)
        _one_of("quantization", self.quantization, (None, *WAYS))
        _one_of("text_quantization", self.text_quantization, (None, *WAYS))
        if self.compiled and (self.offload != "none" or self.quantization is not None):
            other = "offload" if self.offload != "none" else "quantization"
            raise RequestError(
                f"compiled cannot be used with {other}={getattr(self, other)!r}, which steps in before every layer; leave one of them out"
            )


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
