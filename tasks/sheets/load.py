"""From a sheet to exact rows, or to every mistake in it at once. Nothing here needs a model, a GPU or the store."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from tasks.errors import SheetError
from tasks.settings import SheetSettings
from tasks.sheets.columns import is_empty
from tasks.sheets.formats.file import read_sheet_file
from tasks.sheets.raw import RawRow, SheetFile
from tasks.sheets.reader import MAX_PROBLEMS, Reader
from tasks.sheets.rows import Sheet

MAX_TOLD = 100


def load_sheet(settings: SheetSettings, seed: int = 0) -> Sheet:
    """Read, expand and check the sheet; raises one `SheetError` that tells every problem with its place.

    `seed` is the batch's own: where `repeat` counts from in a row that names none.
    """
    if settings.path is None:
        raise SheetError(
            "no sheet was named; give one: headstart run my.csv (or headstart run demo, to see how it works)"
        )
    with _all_kept():
        return _loaded(settings, settings.path, seed)


@contextlib.contextmanager
def _all_kept() -> Iterator[None]:
    """Rows are made by the hundred thousand and all are kept: to look for garbage among them would only take time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _loaded(settings: SheetSettings, path: str, seed: int) -> Sheet:
    file = read_sheet_file(path, settings.format, settings.max_rows)
    if settings.identities:
        file = _with_identities(
            file, read_sheet_file(settings.identities, "auto", settings.max_rows), settings.max_rows
        )
    reader = Reader(file, settings.max_rows, seed, settings.ignore_unknown)
    rows = reader.read()
    if reader.problems:
        shown = reader.problems[:MAX_TOLD]
        more = len(reader.problems) - len(shown)
        lines = [f"  {problem}" for problem in shown] + ([f"  ... and {more} more"] if more else [])
        noun = "problem" if len(reader.problems) == 1 else "problems"
        message = f"{len(reader.problems)} {noun} in {file.name}, nothing was run:\n" + "\n".join(lines)
        raise SheetError(message, reader.problems[:MAX_PROBLEMS])
    return Sheet(name=file.name, root=file.root, rows=tuple(rows), warnings=tuple(reader.notes))


def _with_identities(file: SheetFile, other: SheetFile, max_rows: int) -> SheetFile:
    if len(other.rows) > max_rows:
        raise SheetError(f"{other.rows[-1].place}: more than {max_rows} identities; raise sheet.max_rows or name fewer")
    found = dict(file.identities) | dict(other.identities)
    for row in other.rows:
        name = row.cells.get("identity")
        if is_empty(name):
            raise SheetError(f"{row.place}: identity is missing; every row of an identities file names one")
        found[str(name).strip()] = RawRow(
            row.place, {key: value for key, value in row.cells.items() if key != "identity"}
        )
    return SheetFile(name=file.name, root=file.root, rows=file.rows, identities=found, lists=file.lists)
