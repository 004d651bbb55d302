"""LoRAs as text: the same in a cell of a sheet and in a setting."""

from __future__ import annotations

import re
from collections.abc import Iterator


def split_loras(text: str) -> Iterator[tuple[str, float]]:
    """`path` or `path:weight`, several with `;`."""
    for part in map(str.strip, text.split(";")):
        path, colon, weight = part.rpartition(":")
        if colon and re.fullmatch(r"-?\d{1,9}(\.\d+)?", weight):
            yield path, float(weight)
        elif part:
            yield part, 1.0
