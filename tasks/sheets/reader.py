"""Walks the rows of a sheet once: cells become values, one row becomes many, and what is wrong is gathered on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.sheets.checks import base_prompt_notes, parent_problems, picture_problems
from tasks.sheets.columns import COLUMNS, is_empty, nearest_column, refused
from tasks.sheets.expand import Expansion, Wanted
from tasks.sheets.raw import RawRow, SheetFile, shown
from tasks.sheets.rows import Row
from tasks.sheets.templates import Template

# Nobody reads more of a sheet that is wrong throughout.
MAX_PROBLEMS = 1000
_NEEDED = ("identity", "prompt")


@dataclass
class Reader:
    """Walks the rows once and gathers what is wrong on the way."""

    file: SheetFile
    max_rows: int
    seed: int
    ignore_unknown: bool
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)
    _templates: dict[str, Template] = field(default_factory=dict)

    def read(self) -> list[Row]:
        self._read_identities()
        self._everyone = tuple(self.identities)
        self._present = {column for raw in self.file.rows for column in raw.cells}
        parsed = []
        for raw in self.file.rows:
            parsed.append((raw, self._parse(raw)))
            if len(self.problems) >= MAX_PROBLEMS:
                self.problems.append(f"{raw.place}: that is {MAX_PROBLEMS} problems; the rows after it were not read")
                return []
        if not parsed and not self.problems:
            self.problems.append(f"{self.file.name}: has no rows; it needs at least one")
        self._check_columns()
        expansion = Expansion(self.file.lists, self.identities, self.seed, self.max_rows, self.problems)
        found = (
            expansion.wanted(raw, values, self._template(values["prompt"]))
            for raw, values in parsed
            if "identity" in values and "prompt" in values
        )
        wanted = [one for one in found if one is not None]
        if len(self.file.rows) > self.max_rows:
            self.problems.append(
                f"{self.file.rows[-1].place}: more than {self.max_rows} rows; raise sheet.max_rows or split the sheet"
            )
        elif expansion.fits(wanted):
            self._learn_identities(wanted)
            expansion.make(wanted)
        self.problems += parent_problems(expansion.rows)
        self.problems += picture_problems(expansion.rows)
        self.notes += base_prompt_notes(expansion.rows)
        return expansion.rows

    def _template(self, text: str) -> Template:
        if text not in self._templates:
            self._templates[text] = Template(text)
        return self._templates[text]

    def _read_identities(self) -> None:
        for name, raw in self.file.identities.items():
            try:
                COLUMNS["identity"].parse(name)
            except ValueError as problem:
                self.problems.append(f"{raw.place}, identity: {problem}")
            values = self._cells(raw)
            for column in [column for column in values if not COLUMNS[column].of_identity]:
                self.problems.append(
                    f"{raw.place}, column {column}: does not belong to an identity; move it to the rows"
                )
            self._refuse_unknown({column: raw.place for column in raw.cells if column not in COLUMNS})
            self.identities[name] = {column: value for column, value in values.items() if COLUMNS[column].of_identity}

    def _check_columns(self) -> None:
        """Unknown columns, once each, unless some prompt uses them as a template list."""
        prompts = (raw.cells.get("prompt") for raw in self.file.rows)
        used = {name for text in prompts if isinstance(text, str) for name in self._template(text).names}
        seen: dict[str, str] = {}
        for raw in self.file.rows:
            for column in raw.cells:
                if column not in COLUMNS and column not in used:
                    seen.setdefault(column, raw.place)
        nameless = seen.pop("", None)
        if nameless and any(not is_empty(raw.cells.get("")) for raw in self.file.rows):
            if self.ignore_unknown:
                self.notes.append(f"{nameless}: a column without a name is ignored")
            else:
                self.problems.append(
                    f"{nameless}: a column without a name holds values; name it in the header or remove it"
                )
        self._refuse_unknown(seen)
        if self.file.rows:
            for column in _NEEDED:
                if column not in self._present:
                    self.problems.append(
                        f"{self.file.name}: column {column!r} is missing; a sheet needs identity and prompt"
                    )

    def _refuse_unknown(self, places: Mapping[str, str]) -> None:
        if self.ignore_unknown:
            self.notes += [
                f"{place}: column {shown(column)} is unknown and ignored" for column, place in places.items()
            ]
            return
        self.problems += [
            f"{place}, column {shown(column)}: unknown{nearest_column(column)}; the known ones are {sorted(COLUMNS)}; "
            "rename it, or ignore such columns: sheet.ignore_unknown=true"
            for column, place in places.items()
        ]

    def _parse(self, raw: RawRow) -> dict[str, Any]:
        values = self._cells(raw)
        for column in _NEEDED:
            if column in self._present and is_empty(raw.cells.get(column)):
                self.problems.append(f"{raw.place}, column {column}: is empty; every row needs one")
        return values

    def _cells(self, raw: RawRow) -> dict[str, Any]:
        values = {}
        for column, cell in raw.cells.items():
            if column not in COLUMNS or is_empty(cell):
                continue
            try:
                if (problem := refused(cell)) is not None:
                    raise ValueError(problem)
                values[column] = self._several(cell) if column == "identity" else COLUMNS[column].parse(cell)
            except ValueError as problem:
                self.problems.append(f"{raw.place}, column {column}: {problem}")
        return values

    def _several(self, cell: Any) -> tuple[str, ...]:
        """One identity, a list of them, or `*` for all that have a section."""
        if cell == "*":
            if not self.file.identities:
                raise ValueError("is '*', but no identities are listed; add an identities section or file")
            return self._everyone
        parse = COLUMNS["identity"].parse
        if cell == []:
            raise ValueError("is empty; every row needs one")
        return tuple(parse(name) for name in cell) if isinstance(cell, list) else (parse(cell),)

    def _learn_identities(self, rows: Iterable[Wanted]) -> None:
        """What is said once of an identity holds for its other rows that say nothing."""
        for row in rows:
            for name in row.values["identity"]:
                known = self.identities.setdefault(name, {})
                for column, value in row.values.items():
                    if COLUMNS[column].of_identity and column != "seed":
                        known.setdefault(column, value)
                if not row.prompt.names:
                    known.setdefault("base_prompt", row.values["prompt"])
