"""Rows of the manifest as a table that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

NEEDED = (
    "kind", "status", "key", "identity", "row_id", "start_step", "steps_run", "steps_full", "prompt", "error",
    "created_at", "recorded_at", "tags",
)  # fmt: skip
_HEADER = ("kind", "status", "made (UTC)", "key", "start", "steps", "identity", "row", "prompt")
# Names can be a hundred signs long; the prompt takes what is left of a line.
_LONGEST_NAME, _SHORTEST_PROMPT, _NARROW, _DATE = 20, 10, 100, len("2026-11-21")


def moment(row: Mapping[str, Any]) -> str:
    """When the row's object was made, or the row written where there is none; sorts by time."""
    return str(row.get("created_at") or row.get("recorded_at") or "")


def table(rows: Sequence[Mapping[str, Any]], width: int | None) -> Iterator[str]:
    """A header and a line a row, at most `width` wide; below a row that failed, why."""
    lines = [dict(zip(_HEADER, _cells(row), strict=True)) for row in rows]
    wide = {name: max(cell_len(text) for text in (name, *(line[name] for line in lines))) for name in _HEADER}
    if width is not None:
        if width < _NARROW:
            del wide["row"]
            wide["made (UTC)"] = _DATE
            lines = [line | {"made (UTC)": line["made (UTC)"][:_DATE]} for line in lines]
        for name in {"identity", "row"} & set(wide):
            wide[name] = min(wide[name], _LONGEST_NAME if width >= _NARROW else len(name))
        left = width - sum(wide.values()) + wide["prompt"] - 2 * (len(wide) - 1)
        wide["prompt"] = min(wide["prompt"], max(_SHORTEST_PROMPT, left))
    yield "  ".join(_fitted(name, wide[name]) for name in wide).rstrip()
    for line, row in zip(lines, rows, strict=True):
        yield "  ".join(_fitted(line[name], wide[name]) for name in wide).rstrip()
        if row["error"]:
            why = f"    why: {' '.join(row['error'].split())}"
            yield why if width is None else _fitted(why, width).rstrip()


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    steps = row["steps_run"], row["steps_full"]
    return (
        (row["kind"] or "").removesuffix("s"),
        row["status"] or "",
        moment(row)[:16],
        row["key"][:12],
        "" if row["start_step"] is None else f"k{row['start_step']}",
        "" if None in steps else f"{steps[0]}/{steps[1]}",
        row["identity"] or "",
        row["row_id"] or "",
        " ".join((row["prompt"] or "").split()),
    )


def _fitted(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
