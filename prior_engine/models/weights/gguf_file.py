"""A transformer in a GGUF file: what its header says, and its weights, which stay packed until a layer is called."""

import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from prior_engine.errors import ModelSourceError

if TYPE_CHECKING:
    import torch

SUFFIX = ".gguf"
# What diffusers reads, by GGML's number: the name, and how many weights make a block of how many bytes.
TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
}  # fmt: skip
_PLAIN = ("F32", "F16", "BF16")
# Bytes a weight that diffusers takes at most while it makes a layer plain, as measured: some kinds are made with wide indices.
_UNPACKING = {"Q5_0": 11, "Q5_1": 11, "IQ4_NL": 13, "IQ4_XS": 13}
_UNPACKING_OTHERS = 8
# Bytes of a value in the header, by its type's number; texts and lists have lengths of their own.
_VALUES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST, _UINT32 = 8, 9, 4
_MOST_DIMS, _MOST_TEXT = 8, 2**20
# diffusers' switch for kernels that it fetches from a hub and runs.
_KERNELS = "DIFFUSERS_GGUF_CUDA_KERNELS"


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """One weight as the file has it."""

    shape: tuple[int, ...]
    kind: str
    size: int

    @property
    def packed(self) -> bool:
        """Whether it is kept in fewer bits than a plain number."""
        return self.kind not in _PLAIN

    @property
    def unpacking(self) -> int:
        """Bytes that it takes beside itself while its layer works."""
        return prod(self.shape) * _UNPACKING.get(self.kind, _UNPACKING_OTHERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gguf:
    """What the header says."""

    architecture: str
    weights: Mapping[str, Weight]


class _Cursor:
    """Reads a header; what would lie behind the file's end is told."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size, self.at = file, file.seek(0, 2), 0
        file.seek(0)

    def take(self, count: int) -> bytes:
        self._go(count)
        return self.file.read(count)

    def skip(self, count: int) -> None:
        self._go(count)
        self.file.seek(self.at)

    def number(self, kind: str) -> int:
        return int(struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0])

    def text(self) -> str:
        length = self.number("Q")
        if length > _MOST_TEXT:
            raise ValueError("its header is not that of a GGUF file; give one")
        return self.take(length).decode()

    def _go(self, count: int) -> None:
        self.at += count
        if self.at > self.size:
            raise ValueError("it is cut off; is the download whole?")


def read_gguf(file: Path) -> Gguf:
    """The header of a file.

    Raises:
        ValueError: the file is none, is not whole or holds what is not read; the message goes on from its name.
    """
    with file.open("rb") as opened:
        cursor = _Cursor(opened)
        if cursor.size < 4 or cursor.take(4) != b"GGUF":
            raise ValueError("it is not a GGUF file; give one")
        if cursor.number("I") not in (2, 3):
            raise ValueError("its version of GGUF is not read; take one of version 3, little endian")
        count, told = cursor.number("Q"), cursor.number("Q")
        settings = dict(_setting(cursor) for _ in range(told))
        found: dict[str, tuple[Weight, int]] = {}
        for _ in range(count):
            name, weight, offset = _weight(cursor)
            if name in found:
                raise ValueError(f"it has {name!r} twice")
            found[name] = weight, offset
    step = int(settings.get("general.alignment") or 32)
    start = -(-cursor.at // step) * step
    if max((start + offset + weight.size for weight, offset in found.values()), default=0) > cursor.size:
        raise ValueError("it is cut off; is the download whole?")
    return Gguf(
        architecture=str(settings.get("general.architecture")),
        weights={name: weight for name, (weight, _) in found.items()},
    )


def _setting(cursor: _Cursor) -> tuple[str, str | int | None]:
    """A name and its value; numbers and lists of no interest are passed over."""
    name, kind = cursor.text(), cursor.number("I")
    if kind == _TEXT:
        return name, cursor.text()
    if kind == _UINT32:
        return name, cursor.number("I")
    if kind == _LIST:
        inner, count = cursor.number("I"), cursor.number("Q")
        if inner == _TEXT:
            for _ in range(count):
                cursor.skip(cursor.number("Q"))
            return name, None
        kind = inner
    else:
        count = 1
    if kind not in _VALUES:
        raise ValueError("its header is not that of a GGUF file; give one")
    cursor.skip(count * _VALUES[kind])
    return name, None


def _weight(cursor: _Cursor) -> tuple[str, Weight, int]:
    name, dims = cursor.text(), cursor.number("I")
    if dims > _MOST_DIMS:
        raise ValueError("its header is not that of a GGUF file; give one")
    # GGML tells the innermost length first.
    shape = tuple(cursor.number("Q") for _ in range(dims))[::-1]
    number, offset = cursor.number("I"), cursor.number("Q")
    if number not in TYPES:
        known = ", ".join(sorted(kind for kind, *_ in TYPES.values()))
        raise ValueError(f"its {name!r} is of GGML's type {number}, which diffusers does not read; take one of {known}")
    kind, block, size = TYPES[number]
    if (shape[-1] if shape else 1) % block:
        raise ValueError(f"its {name!r} has rows of {shape[-1]}, and {kind} packs {block} at a time")
    return name, Weight(shape=shape, kind=kind, size=prod(shape) // block * size), offset


def packed_in(file: Path) -> dict[str, Weight]:
    """What of a file stays packed on the device; nothing of one that is no GGUF."""
    if file.suffix != SUFFIX:
        return {}
    return {name: weight for name, weight in read_gguf(file).weights.items() if weight.packed}


def check_gguf(name: str, files: Collection[Path], kind: str, quantization: str | None) -> None:
    """Refuse what cannot be run from GGUF here; `kind` is the class that the model has for it."""
    (file, *more) = files
    start = f"model part {name!r}: {file.name!r}"
    if find_spec("gguf") is None:
        raise ModelSourceError(
            f"{start} is read with the package gguf, which is not installed; pip install 'headstart-video[gguf]'"
        )
    if more:
        raise ModelSourceError(f"{start} is one of {1 + len(more)} files, and a GGUF is one; name it alone")
    if not kind.startswith("WanTransformer") and not kind.startswith("WanVACETransformer"):
        raise ModelSourceError(
            f"{start} is a GGUF, which is read for transformers of Wan, not for {kind}; give safetensors files"
        )
    found = read_gguf(file).architecture
    if found != "wan":
        raise ModelSourceError(f"{start} says that it is of the architecture {found!r}, and 'wan' is needed")
    if quantization is not None:
        raise ModelSourceError(
            f"{start} is packed already, and accel.quantization={quantization} would pack it again; leave one of them out"
        )
    if os.environ.get(_KERNELS, "").lower() in ("1", "true", "yes"):
        raise ModelSourceError(f"{start}: {_KERNELS} is set, which fetches code from a hub and runs it; unset it")


def load_gguf(file: Path) -> "dict[str, torch.Tensor]":
    """All weights: plain ones as tensors, packed ones as diffusers' parameters."""
    from diffusers.models.model_loading_utils import load_gguf_checkpoint
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    held = load_gguf_checkpoint(file)
    kinds = {name: weight.kind for name, weight in read_gguf(file).weights.items()}
    # bf16 is no packing, and only linear layers of diffusers would take it as one.
    return {
        name: dequantize_gguf_tensor(weight).to(_bf16()) if kinds[name] == "BF16" else weight
        for name, weight in held.items()
    }


def _bf16() -> "torch.dtype":
    import torch

    return torch.bfloat16


def put_packed(
    model: Any, named: "dict[str, torch.Tensor]", exact: Collection[str], dtype: "torch.dtype"
) -> frozenset[str]:
    """Give linear layers their packed weights, and tell which; all other packed weights become plain ones in `named`."""
    # As diffusers marks them; without one its quantizer, which needs the package, is not asked.
    packed = {name for name, weight in named.items() if hasattr(weight, "quant_type")}
    if not packed:
        return frozenset()
    import torch
    from diffusers import GGUFQuantizationConfig
    from diffusers.quantizers.gguf.gguf_quantizer import GGUFQuantizer
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    layers = dict(model.named_modules())
    stay = {
        name
        for name in packed
        if isinstance(layers.get(name.removesuffix(".weight")), torch.nn.Linear)
        and not set(exact) & set(name.split("."))
    }
    for name in packed - stay:
        named[name] = dequantize_gguf_tensor(named[name])
    if not stay:
        return frozenset()
    quantizer = GGUFQuantizer(GGUFQuantizationConfig(compute_dtype=dtype))
    quantizer.preprocess_model(model, device_map=None, keep_in_fp32_modules=list(exact), state_dict=named)
    for name in stay:
        quantizer.create_quantized_param(model, named[name], name, torch.device("cpu"))
    model.hf_quantizer = quantizer
    return frozenset(stay)
