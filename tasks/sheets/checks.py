"""What has to hold between the rows of a sheet, once each of them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.sheets.columns import nearest_column
from tasks.sheets.rows import Row


def parent_problems(rows: Sequence[Row]) -> list[str]:
    """A parent is another row of the same identity, and no row descends from itself."""
    by_id = {row.id: row for row in rows}
    problems = []
    for row in rows:
        if row.parent is None:
            continue
        place, parent = f"{row.place}, column parent", by_id.get(row.parent)
        if parent is None:
            near = nearest_column(row.parent, list(by_id))
            problems.append(f"{place}: {row.parent!r} is not an id of this sheet{near}")
        elif parent.identity != row.identity:
            problems.append(
                f"{place}: {row.parent!r} belongs to identity {parent.identity!r} and this row to {row.identity!r}; both must have the same one"
            )
        elif _is_own_ancestor(row, by_id):
            problems.append(f"{place}: {row.id!r} descends from itself; remove one parent to break the circle")
    return problems


def _is_own_ancestor(row: Row, by_id: Mapping[str, Row]) -> bool:
    seen = {row.id}
    parent = row.parent
    while parent is not None and parent in by_id:
        if parent in seen:
            return True
        seen.add(parent)
        parent = by_id[parent].parent
    return False


def picture_problems(rows: Sequence[Row]) -> list[str]:
    """One identity is one picture: two would be two priors under one name."""
    problems = []
    for column in ("image", "last_image"):
        for identity, places in _said_of_identities(rows, column).items():
            (picture, there), *others = places.items()
            problems += [
                f"{place}, column {column}: identity {identity!r} has two pictures, {picture!r} ({there}) and {other!r} (here); "
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


def _said_of_identities(rows: Sequence[Row], column: str) -> dict[str, dict[str | None, str]]:
    """Each identity's different values in a column, with the first place of each."""
    said: dict[str, dict[str | None, str]] = {}
    for row in rows:
        said.setdefault(row.identity, {}).setdefault(getattr(row, column), row.place)
    return said
