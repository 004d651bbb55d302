"""Walks the rows of a sheet once: cells become values, one row becomes many, and what is wrong is gathered on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.sheets.checks import base_prompt_notes, parent_problems, picture_problems
from tasks.sheets.columns import COLUMNS, is_empty, nearest_column
from tasks.sheets.expand import combinations, filled, list_cell, row_name, stray_braces, template_names
from tasks.sheets.file import RawRow, SheetFile
from tasks.sheets.rows import Row


@dataclass
class Reader:
    """Walks the rows once and gathers what is wrong on the way."""

    file: SheetFile
    max_rows: int
    seed: int
    ignore_unknown: bool
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> list[Row]:
        self._read_identities()
        parsed = [(raw, self._parse(raw)) for raw in self.file.rows]
        if not parsed and not self.problems:
            self.problems.append(f"{self.file.name}: has no rows; it needs at least one")
        self._check_columns()
        self._learn_identities(values for _, values in parsed)
        for raw, values in parsed:
            if "identity" in values and "prompt" in values:
                self._expand(raw, values)
                if len(self.rows) > self.max_rows:
                    self.problems.append(
                        f"{raw.place}: more than {self.max_rows} rows after expansion; raise sheet.max_rows or split the sheet"
                    )
                    break
        self.problems += parent_problems(self.rows)
        self.problems += picture_problems(self.rows)
        self.notes += base_prompt_notes(self.rows)
        return self.rows

    def _read_identities(self) -> None:
        for name, raw in self.file.identities.items():
            values = self._cells(raw, set(COLUMNS))
            for column in [column for column in values if not COLUMNS[column].of_identity]:
                self.problems.append(
                    f"{raw.place}, column {column}: does not belong to an identity; move it to the rows"
                )
            self._refuse_unknown({column: raw.place for column in raw.cells if column not in COLUMNS})
            self.identities[name] = {column: value for column, value in values.items() if COLUMNS[column].of_identity}

    def _check_columns(self) -> None:
        """Unknown columns, once each, unless some prompt uses them as a template list."""
        used = {name for raw in self.file.rows for name in template_names(str(raw.cells.get("prompt") or ""))}
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
            present = {column for raw in self.file.rows for column in raw.cells}
            for column in ("identity", "prompt"):
                if column not in present:
                    self.problems.append(
                        f"{self.file.name}: column {column!r} is missing; a sheet needs identity and prompt"
                    )

    def _refuse_unknown(self, places: Mapping[str, str]) -> None:
        if self.ignore_unknown:
            self.notes += [f"{place}: column {column!r} is unknown and ignored" for column, place in places.items()]
            return
        self.problems += [
            f"{place}, column {column!r}: unknown{nearest_column(column)}; the known ones are {sorted(COLUMNS)}; "
            "rename it, or ignore such columns: sheet.ignore_unknown=true"
            for column, place in places.items()
        ]

    def _parse(self, raw: RawRow) -> dict[str, Any]:
        values = self._cells(raw, set(COLUMNS))
        for column in ("identity", "prompt"):
            if column in raw.cells and column not in values and is_empty(raw.cells[column]):
                self.problems.append(f"{raw.place}, column {column}: is empty; every row needs one")
        return values

    def _cells(self, raw: RawRow, columns: set[str]) -> dict[str, Any]:
        values = {}
        for column, cell in raw.cells.items():
            if column not in columns or is_empty(cell):
                continue
            try:
                values[column] = self._several(cell) if column == "identity" else COLUMNS[column].parse(cell)
            except ValueError as problem:
                self.problems.append(f"{raw.place}, column {column}: {problem}")
        return values

    def _several(self, cell: Any) -> tuple[str, ...]:
        """One identity, a list of them, or `*` for all that have a section."""
        if cell == "*":
            if not self.file.identities:
                raise ValueError("is '*', but no identities are listed; add an identities section or file")
            return tuple(self.file.identities)
        parse = COLUMNS["identity"].parse
        return tuple(parse(name) for name in cell) if isinstance(cell, list) else (parse(cell),)

    def _learn_identities(self, rows: Any) -> None:
        """What is said once of an identity holds for its other rows that say nothing."""
        for values in rows:
            for name in values.get("identity", ()):
                known = self.identities.setdefault(name, {})
                for column, value in values.items():
                    if COLUMNS[column].of_identity and column != "seed":
                        known.setdefault(column, value)
                if "prompt" in values and not template_names(values["prompt"]):
                    known.setdefault("base_prompt", values["prompt"])

    def _expand(self, raw: RawRow, values: Mapping[str, Any]) -> None:
        prompt: str = values["prompt"]
        if stray_braces(prompt):
            self.problems.append(
                f"{raw.place}, column prompt: a single brace has no partner; write {{{{ and }}}} for plain braces"
            )
            return
        names = [name for name in template_names(prompt) if name != "identity"]
        lists = {name: self._list_of(raw, name) for name in names}
        missing = [name for name, found in lists.items() if not found]
        if missing:
            known = sorted(self.file.lists)
            self.problems.append(
                f"{raw.place}, column prompt: template {{{missing[0]}}} has no list; add a column {missing[0]!r} with values separated by |, or a lists: section (lists here: {known})"
            )
            return
        for identity in values["identity"]:
            for choice in combinations(names, lists):
                text = filled(prompt, {**choice, "identity": identity})
                self._add_seeds(raw, values, identity, text, choice)

    def _list_of(self, raw: RawRow, name: str) -> tuple[str, ...]:
        cell = raw.cells.get(name)
        return list_cell(cell) if name not in COLUMNS and not is_empty(cell) else tuple(self.file.lists.get(name, ()))

    def _add_seeds(
        self, raw: RawRow, values: Mapping[str, Any], identity: str, prompt: str, choice: Mapping[str, str]
    ) -> None:
        own = self.identities.get(identity, {})
        seeds: tuple[int | None, ...] = values.get("seed") or own.get("seed") or (None,)
        repeat = values.get("repeat", 1)
        if repeat > 1:
            seeds = tuple((self.seed if seed is None else seed) + offset for seed in seeds for offset in range(repeat))
        for seed in seeds:
            if len(self.rows) > self.max_rows:
                return
            self._add(raw, values, identity, prompt, choice, seed, many=len(seeds) > 1)

    def _add(
        self,
        raw: RawRow,
        values: Mapping[str, Any],
        identity: str,
        prompt: str,
        choice: Mapping[str, str],
        seed: int | None,
        *,
        many: bool,
    ) -> None:
        inherited = self.identities.get(identity, {})
        pick = {
            column: values.get(column, inherited.get(column))
            for column in COLUMNS
            if COLUMNS[column].of_identity and column != "seed"
        }
        base_prompt = pick.pop("base_prompt") or prompt
        # The first row of an identity without a base prompt lends it its own, so that all rows share one prior.
        self.identities.setdefault(identity, {}).setdefault("base_prompt", base_prompt)
        plain = {
            column: values[column]
            for column in ("negative_prompt", "start_step", "start", "tail", "guidance", "lora", "tags", "parent")
            if column in values
        }
        row_id = self._name(
            raw,
            values.get("id"),
            identity,
            row_name(prompt, choice, len(self.rows) + 1),
            seed if many else None,
            expanded=bool(choice) or len(values["identity"]) > 1,
        )
        self.rows.append(
            Row(
                id=row_id,
                identity=identity,
                prompt=prompt,
                base_prompt=filled(base_prompt, {"identity": identity}),
                seed=seed,
                place=raw.place,
                **pick,
                **plain,
            )
        )

    def _name(
        self, raw: RawRow, given: str | None, identity: str, made: str, seed: int | None, *, expanded: bool
    ) -> str:
        if given is not None and not expanded and seed is None:
            if given in self.taken:
                self.problems.append(
                    f"{raw.place}, column id: {given!r} is already used at {self.taken[given]}; ids must be unique in a sheet"
                )
            self.taken[given] = raw.place
            return given
        stem = f"{identity}-{given or made}" if expanded or given is None else given
        stem += f"-s{seed}" if seed is not None else ""
        name, number = stem, 2
        while name in self.taken:
            name, number = f"{stem}-{number}", number + 1
        self.taken[name] = raw.place
        return name
