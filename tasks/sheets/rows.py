"""What a sheet comes to: exact rows, as far as a sheet goes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from prior_engine.requests.steps import Tail

_LATER = ("start", "prior")
# Those of which a value does not tell the column.
_NAMED = ("video", "mask", "references", "control_scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant, made exact as far as the sheet goes; None = the batch's own setting."""

    id: str
    identity: str
    prompt: str
    base_prompt: str
    place: str
    negative_prompt: str | None = None
    image: str | None = None
    last_image: str | None = None
    video: str | None = None
    mask: str | None = None
    references: tuple[str, ...] | None = None
    control_scale: float | None = None
    seed: int | None = None
    start_step: int | str | None = None
    start: str | None = None
    tail: Tail | Literal["auto"] | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    lora: tuple[tuple[str, float], ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None
    prior: str | None = None

    @property
    def later(self) -> list[str]:
        """Values of columns that came later: rows without them keep the digest that they had."""
        plain = [str(value) for name in _LATER if (value := getattr(self, name)) is not None]
        return plain + [f"{name}={value}" for name in _NAMED if (value := getattr(self, name)) is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All rows of a sheet, and where relative paths in it start from."""

    name: str
    root: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Content of the rows: the same rows, the same digest, whatever the file is called."""
        names = [name for name in Row.__dataclass_fields__ if name not in {"place", *_LATER, *_NAMED}]
        whole = hashlib.sha256(b"[")
        # One list in JSON, row by row: all of it at once may be far longer than the sheet.
        for index, row in enumerate(self.rows):
            values = [getattr(row, name) for name in names] + row.later
            whole.update(f"{', ' if index else ''}{json.dumps(values, ensure_ascii=False)}".encode())
        whole.update(b"]")
        return whole.hexdigest()
