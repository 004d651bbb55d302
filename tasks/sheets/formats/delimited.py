"""CSV and its kin: a header, then one row a line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from tasks.errors import SheetError
from tasks.sheets.formats.separators import mixed, separator_of
from tasks.sheets.raw import RawRow, column_names


def delimited_rows(text: str, name: str, expected: str) -> Iterator[RawRow]:
    """The rows below the header; cells that a row lacks at its end are left out."""
    delimiter = separator_of(text, expected)
    csv.field_size_limit(2**20)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, f"{name}:{line}", delimiter)
                continue
            if len(cells) > len(header):
                raise SheetError(
                    f"{name}:{line}: {len(cells)} cells, the header has {len(header)} columns; quote cells that hold {delimiter!r}"
                )
            yield RawRow(f"{name}:{line}", dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise SheetError(
            f"{name}:{reader.line_num}: {error}; quote cells that hold quotes or line breaks, and double the quotes inside"
        ) from None
    if header is None:
        raise SheetError(f"{name}: is empty; it needs a header with identity,prompt and at least one row")


def _header(cells: list[str], place: str, delimiter: str) -> list[str]:
    header = column_names(cells, place)
    if problem := mixed(header, delimiter):
        raise SheetError(f"{place}: {problem}")
    return header
