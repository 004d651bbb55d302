"""Tensors to safetensors bytes and back, in the precision they have; torch is loaded when the first tensor comes by."""

import hashlib
import json
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prior_store.errors import DamagedError, ExactnessError

if TYPE_CHECKING:
    import torch

STORED_AS: Final = "headstart.stored_as"
"""Metadata entry of a file in lowered precision: JSON, tensor name -> [dtype produced, dtype stored]."""

LOWER: Final = ("bfloat16", "float16")
_WIDER: Final = {"bfloat16": ("float32", "float64"), "float16": ("float32", "float64")}


def encode(
    tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None, storage_dtype: str | None = None
) -> bytes:
    """Write tensors as safetensors; floats wider than `storage_dtype`, if one is given, are lowered and noted."""
    import torch
    from safetensors.torch import save

    # Contiguous copies of views: safetensors refuses tensors that share memory.
    ready = {name: _tensor(name, value).detach().cpu().contiguous() for name, value in tensors.items()}
    notes = dict(metadata or {})
    if storage_dtype is not None:
        if storage_dtype not in LOWER:
            raise ExactnessError(f"storage_dtype {storage_dtype!r} is not known; choose one of {sorted(LOWER)} or none")
        lowered = {
            name: [str(tensor.dtype).removeprefix("torch."), storage_dtype]
            for name, tensor in ready.items()
            if str(tensor.dtype).removeprefix("torch.") in _WIDER[storage_dtype]
        }
        ready.update({name: ready[name].to(getattr(torch, storage_dtype)) for name in lowered})
        notes[STORED_AS] = json.dumps(lowered, sort_keys=True)
    pointers = [tensor.untyped_storage().data_ptr() for tensor in ready.values() if tensor.numel()]
    if len(set(pointers)) < len(pointers):
        ready = {name: tensor.clone() for name, tensor in ready.items()}
    return _ordered(save(ready, metadata=notes or None))


def _ordered(content: bytes) -> bytes:
    """Put the header in order: safetensors writes its metadata in another order in every process, and equal results
    have to be equal bytes."""
    end = header_end(content, "a new file")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((struct.pack("<Q", len(header)), header, memoryview(content)[end:]))


def decode(content: bytes | bytearray, place: str) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """Read safetensors bytes; what was lowered comes back in the dtype it was produced in."""
    from safetensors.torch import load

    metadata = check_whole(content[: header_end(content, place)], len(content), place)
    return _restored(load(bytes(content)), metadata), metadata


def decode_file(path: Path, place: str) -> tuple[dict[str, "torch.Tensor"], dict[str, str]]:
    """Read a local safetensors file by mapping it: pages come in when they are touched."""
    from safetensors.torch import load_file

    with path.open("rb") as file:
        head = file.read(8)
        head += file.read(header_end(head, place) - 8)
    metadata = check_whole(head, path.stat().st_size, place)
    return _restored(load_file(path), metadata), metadata


def file_sha256(path: Path) -> str:
    """Digest a local file through the same pages that a mapping load will use."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return hashlib.sha256(b"").hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
            return hashlib.sha256(pages).hexdigest()


def bytes_sha256(content: bytes | bytearray | memoryview) -> str:
    """Digest bytes."""
    return hashlib.sha256(content).hexdigest()


def check_whole(head: bytes | bytearray, size: int, place: str) -> dict[str, str]:
    """Check that a safetensors file is as long as its header says; give its metadata. `head` holds the header."""
    end = header_end(head, place)
    try:
        header = json.loads(bytes(head[8:end]))
        metadata = header.pop("__metadata__", {})
        needed = end + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{place} has no readable safetensors header ({error})") from error
    if size != needed:
        raise DamagedError(f"{place} has {size} bytes where its header needs {needed}; it is torn")
    return dict(metadata)


def content_digest(tensors: Mapping[str, Any]) -> str:
    """Digest names, dtypes, shapes and bits of tensors, whatever file they are in."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = _tensor(name, tensors[name]).detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def header_end(head: bytes | bytearray, place: str) -> int:
    """Tell where the header of a safetensors file ends, from its first 8 bytes."""
    if len(head) < 8:
        raise DamagedError(f"{place} has {len(head)} bytes, too few for a safetensors file; it is torn")
    return 8 + int(struct.unpack("<Q", bytes(head[:8]))[0])


def _tensor(name: str, value: Any) -> "torch.Tensor":
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    raise TypeError(f"{name!r} is a {type(value).__name__}; the store keeps torch tensors and numpy arrays")


def _restored(tensors: dict[str, "torch.Tensor"], metadata: Mapping[str, str]) -> dict[str, "torch.Tensor"]:
    import torch

    for name, (produced, _stored) in json.loads(metadata.get(STORED_AS, "{}")).items():
        tensors[name] = tensors[name].to(getattr(torch, produced))
    return tensors
