"""What has to hold between the rows of a sheet, once each of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.sheets.columns import nearest
from tasks.sheets.raw import shown
from tasks.sheets.rows import Row

# Each is a search among all ids.
_HINTS = 10


def parent_problems(rows: Sequence[Row]) -> list[str]:
    """A parent is another row of the same identity, and no row descends from itself."""
    by_id = {row.id: row for row in rows}
    endless = _endless(by_id)
    hints = _HINTS
    problems = []
    for row in rows:
        if row.parent is None:
            continue
        place, parent = f"{row.place}, column parent", by_id.get(row.parent)
        if parent is None:
            near = nearest(row.parent, tuple(by_id)) if hints > 0 else ""
            hints -= 1
            problems.append(f"{place}: {row.parent!r} is not an id of this sheet{near}")
        elif parent.identity != row.identity:
            problems.append(
                f"{place}: {row.parent!r} belongs to identity {parent.identity!r} and this row to {row.identity!r}; both must have the same one"
            )
        elif row.id in endless:
            problems.append(f"{place}: {row.id!r} descends from itself; remove one parent to break the circle")
    return problems


def _endless(by_id: Mapping[str, Row]) -> set[str]:
    """The rows that have no first ancestor."""
    endless: dict[str, bool] = {}
    for row in by_id.values():
        line: dict[str, None] = {}
        at: Row | None = row
        while at is not None and at.id not in endless and at.id not in line:
            line[at.id] = None
            at = by_id.get(at.parent) if at.parent is not None else None
        endless |= dict.fromkeys(line, at is not None and (at.id in line or endless[at.id]))
    return {row_id for row_id, is_endless in endless.items() if is_endless}


# What a second one is called.
_OF_ONE = {
    "image": "pictures",
    "last_image": "pictures",
    "video": "videos",
    "mask": "masks",
    "references": "sets of references",
}


def picture_problems(rows: Sequence[Row]) -> list[str]:
    """One identity is one picture, or one video: two would be two priors under one name."""
    problems = []
    for column, many in _OF_ONE.items():
        for identity, places in _said_of_identities(rows, column).items():
            (picture, there), *others = places.items()
            problems += [
                f"{place}, column {column}: identity {identity!r} has two {many}, {shown(picture)} ({there}) and {shown(other)} (here); "
                "give the second its own identity name"
                for other, place in others
            ]
    return problems


def base_prompt_notes(rows: Sequence[Row]) -> list[str]:
    """Several base prompts of one identity can be meant, and cost a prior each."""
    return [
        f"identity {identity!r} has {len(places)} base prompts (at {', '.join(list(places.values())[:3])}), so it gets a prior for each"
        for identity, places in _said_of_identities(rows, "base_prompt").items()
        if len(places) > 1
    ]


def _said_of_identities(rows: Sequence[Row], column: str) -> dict[str, dict[Any, str]]:
    """Each identity's different values in a column, with the first place of each."""
    said: dict[str, dict[Any, str]] = {}
    for row in rows:
        said.setdefault(row.identity, {}).setdefault(getattr(row, column), row.place)
    return said
