"""What stands between the cells of a sheet. Excel writes semicolons or tabs where the comma is the decimal sign."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from tasks.sheets.columns import COLUMNS
from tasks.sheets.raw import shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_REQUIRED = {"identity", "prompt"}


def separator_of(text: str, expected: str) -> str:
    """The separator under which the header names what a sheet needs; `expected` where none does better."""
    lines = io.StringIO(text, newline="")
    header = next((line for line in lines if line.strip(" \r\n\t;,")), "")

    def fitness(separator: str) -> tuple[bool, int, int]:
        # Far below the length of a cell that csv refuses; a header is never that long.
        cells = next(csv.reader([header[:100_000]], delimiter=separator), [])
        known = {cell.strip().lower() for cell in cells} & set(COLUMNS)
        return known >= _REQUIRED, len(known), len(cells)

    # The first of equals is taken.
    return max(dict.fromkeys((expected, *SEPARATORS)), key=fitness)


def mixed(header: Sequence[str], separator: str) -> str | None:
    """What to say of a header that lacks a column and has a name with another separator in it."""
    for cell in header if not set(header) >= _REQUIRED else ():
        others = [name for sign, name in SEPARATORS.items() if sign in cell]
        if others:
            return f"the header is separated by {SEPARATORS[separator]}, yet {shown(cell)} holds {others[0]}; use one of them throughout"
    return None
