"""A sheet taken apart but not understood: raw cells that know where they stand, and how many of them there may be."""

from __future__ import annotations

import reprlib
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import SheetError

MAX_COLUMNS = 1000
# Deeper than any cell can mean, and shallow enough for every recursion on the way.
MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class RawRow:
    """Cells as they stand in the file, and the place to name when one of them is wrong."""

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFile:
    """A file, taken apart but not understood."""

    name: str
    root: str
    rows: tuple[RawRow, ...]
    identities: Mapping[str, RawRow] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = {column for row in (*self.rows, *self.identities.values()) for column in row.cells}
        if len(columns) > MAX_COLUMNS:
            raise SheetError(f"{self.name}: {len(columns)} different columns; a sheet may have at most {MAX_COLUMNS}")


def column_names(names: Iterable[Any], place: str) -> list[str]:
    """The names of columns as they are compared; each stands there once."""
    found = [str(name).strip().lower() for name in names]
    if len(found) > MAX_COLUMNS:
        raise SheetError(f"{place}: {len(found)} columns; a sheet may have at most {MAX_COLUMNS}")
    once_each((column for column in found if column), place, "columns ")
    return found


def once_each(names: Iterable[str], place: str, what: str = "") -> None:
    """Refuse names that stand there twice: whatever reads them would take one of the two without a word."""
    doubled = sorted(name for name, times in Counter(names).items() if times > 1)
    if doubled:
        raise SheetError(f"{place}: {what}{shown(doubled)} appear twice; keep one of each")


def named_row(place: str, cells: Mapping[Any, Any]) -> RawRow:
    """A row of a file in which each row names its own columns."""
    return RawRow(place, dict(zip(column_names(cells, place), cells.values(), strict=True)))


def too_deep(place: str) -> SheetError:
    return SheetError(f"{place}: nested more than {MAX_DEPTH} levels deep; a cell is a plain value or a list of them")


_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = _shortener.maxlong = 100
_shortener.maxlist = _shortener.maxtuple = _shortener.maxset = _shortener.maxdict = 10


def shown(value: object) -> str:
    """A value as a message shows it: whole where it is short."""
    return _shortener.repr(value)


def cut(text: object) -> str:
    """What a library says, which may quote a whole cell."""
    return textwrap.shorten(str(text), 300, placeholder=" ...")
