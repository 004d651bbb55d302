"""Is a file LoRA weights? Its header says so; the weights themselves are not read."""

import json
from typing import BinaryIO

from prior_engine.errors import RequestError

_MAX_HEADER = 100 * 2**20


def check_lora(file: BinaryIO, path: str) -> None:
    """Refuse what is no whole safetensors file, or holds no weights of a LoRA; `file` is left at its start."""
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, _MAX_HEADER):
        raise RequestError(f"the LoRA file {path!r} cannot be read: it is not a safetensors file; give one")
    try:
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = 8 + length + end == size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise RequestError(
            f"the LoRA file {path!r} cannot be read: its header is not that of a safetensors file; give one"
        ) from None
    if not whole:
        raise RequestError(f"the LoRA file {path!r} cannot be read: it is cut off; is the download whole?")
    if not any("lora" in name.lower() for name in header):
        held = f"names like {min(header)!r}" if header else "nothing"
        raise RequestError(f"the file {path!r} holds no LoRA weights, whose names have 'lora' in them; it holds {held}")
    file.seek(0)
