"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from tasks.errors import SheetError
from tasks.sheets.raw import RawRow, named_row, once_each, too_deep


def json_rows(text: str, name: str) -> Iterator[RawRow]:
    """The objects, one by one."""
    for line, row_text in enumerate(text.split("\n"), start=1):
        if not row_text.strip():
            continue
        place = f"{name}:{line}"
        try:
            cells = json.loads(row_text, parse_int=_whole_number, object_pairs_hook=partial(_object, place))
        except json.JSONDecodeError as error:
            raise SheetError(
                f"{place}: not JSON ({error.msg} at column {error.colno}); each line must be one object"
            ) from None
        except RecursionError:
            raise too_deep(place) from None
        if not isinstance(cells, dict):
            raise SheetError(
                f'{place}: is a {type(cells).__name__}; must be an object such as {{"identity": "fox", "prompt": "..."}}'
            )
        yield named_row(place, cells)


def _object(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once_each((name for name, _ in pairs), place)
    return dict(pairs)


def _whole_number(digits: str) -> int | str:
    """No column takes a number of hundreds of digits: it stays text, and its column says what it needs."""
    return int(digits) if len(digits) <= 100 else digits
