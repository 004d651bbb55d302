"""Experts in fewer bits: the ways there are, what each needs and takes, and how it is put on a model."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prior_engine.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

# By the start of a device's name.
_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """What one way takes, in bytes a number; `package` is its extra as well."""

    package: str | None = None
    stored: float = 1.0
    # Whether a layer's weights are made wide again while it works.
    widens: bool = True
    # What stands beside the row that a layer makes: copies in the run's precision, and bytes whatever that is.
    copies: int = 0
    beside: float = 0.0
    # Whether such weights can wait in main memory.
    waits: bool = True


# The first two are diffusers' own casts: stored small, computed as ever. What others take was measured on a CPU.
WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "float8_e4m3fn": Way(),
        "float8_e5m2": Way(),
        "int8": Way(package="torchao", copies=1),
        "int8_dynamic": Way(package="torchao", widens=False, beside=10.25),
        # Each 64 numbers share a scale of four bytes.
        "nf4": Way(package="bitsandbytes", stored=0.5 + 4 / 64, waits=False),
    }
)


def check_quantization(name: str | None, device: str, offload: str, setting: str = "quantization") -> None:
    """Refuse what this machine or the other settings cannot do, before anything is loaded."""
    if name is None:
        return
    way = WAYS[name]
    if way.package is None:
        return
    if find_spec(way.package) is None:
        raise UnsupportedError(
            f"accel.{setting}={name} needs the package {way.package}, which is not installed; "
            f"pip install 'headstart-video[{way.package}]'"
        )
    if not device.startswith(_DEVICES):
        raise UnsupportedError(
            f"accel.{setting}={name} runs on CUDA devices and CPUs, not on {device!r}; set float8_e4m3fn, or none"
        )
    if offload != "none" and not way.waits:
        raise UnsupportedError(
            f"accel.{setting}={name} cannot be used with accel.offload={offload}, since the scales of such weights do not move "
            "with them; leave one of them out"
        )


def quantize(model: Any, name: str, dtype: "torch.dtype") -> None:
    """Put a loaded model's weights into fewer bits: those of the layers that diffusers' casts take as well."""
    import torch
    from diffusers.hooks import apply_layerwise_casting

    if WAYS[name].package is None and hasattr(model, "enable_layerwise_casting"):
        model.enable_layerwise_casting(storage_dtype=getattr(torch, name), compute_dtype=dtype)
        return
    if WAYS[name].package is None:
        # A text encoder: tables of words are read, not computed with.
        apply_layerwise_casting(
            model,
            storage_dtype=getattr(torch, name),
            compute_dtype=dtype,
            skip_modules_pattern=_exact_in(model),
            skip_modules_classes=(torch.nn.Embedding,),
        )
        return
    layers = dict(_layers(model))
    if not layers:
        raise UnsupportedError(
            f"accel.quantization={name} finds no layer of {type(model).__name__} to work on; leave it out"
        )
    _PUT[name](model, layers, dtype)


def _layers(model: Any) -> "Iterator[tuple[str, torch.nn.Linear]]":
    """Linear layers but those that have to stay exact."""
    import torch

    kept = _exact_in(model)
    for name, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and not any(re.search(pattern, name) for pattern in kept):
            yield name, layer


def _exact_in(model: Any) -> tuple[str, ...]:
    """Patterns of the layers that have to stay exact, by diffusers and by the model's own word."""
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

    return (
        *DEFAULT_SKIP_MODULES_PATTERN,
        *(getattr(model, "_skip_layerwise_casting_patterns", None) or ()),
        *(getattr(model, "_keep_in_fp32_modules", None) or ()),
    )


def _int8(model: Any, layers: "Mapping[str, torch.nn.Linear]", dtype: "torch.dtype") -> None:
    del dtype
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(model, Int8WeightOnlyConfig(), filter_fn=lambda _, name: name in layers)


def _int8_dynamic(model: Any, layers: "Mapping[str, torch.nn.Linear]", dtype: "torch.dtype") -> None:
    del dtype
    import torchao.kernel  # noqa: F401 - else the first step brings it, and what it has to say
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig(), filter_fn=lambda _, name: name in layers)


def _nf4(model: Any, layers: "Mapping[str, torch.nn.Linear]", dtype: "torch.dtype") -> None:
    """The weights become small on the way to their device."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    for name, layer in layers.items():
        biased = layer.bias is not None
        small = Linear4bit(
            layer.in_features, layer.out_features, biased, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        small.weight = Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
        small.bias = layer.bias
        model.set_submodule(name, small)


_PUT: Mapping[str, "Callable[[Any, Mapping[str, torch.nn.Linear], torch.dtype], None]"] = MappingProxyType(
    {"int8": _int8, "int8_dynamic": _int8_dynamic, "nf4": _nf4}
)
