"""The header of a safetensors file: names, types and shapes, and whether the file is whole. No weights are read."""

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

_MAX_HEADER = 100 * 2**20


def read_header(file: BinaryIO) -> Mapping[str, Any]:
    """The entries by name, without the metadata; `file` is left at its start.

    Raises:
        ValueError: the file is none or not whole; the message goes on from its name.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, _MAX_HEADER):
        raise ValueError("it is not a safetensors file; give one")
    try:
        header: dict[str, Any] = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        whole = 8 + length + end == size
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ValueError("its header is not that of a safetensors file; give one") from None
    if not whole:
        raise ValueError("it is cut off; is the download whole?")
    file.seek(0)
    return header
