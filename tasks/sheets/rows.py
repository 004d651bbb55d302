"""From a sheet to exact rows, or to every mistake in it at once. Nothing here needs a model, a GPU or the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.errors import SheetError
from tasks.settings import SheetSettings
from tasks.sheets.columns import COLUMNS, is_empty, nearest_column
from tasks.sheets.expand import combinations, filled, list_cell, row_name, stray_braces, template_names
from tasks.sheets.file import RawRow, SheetFile, read_sheet_file

MAX_TOLD = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant, made exact as far as the sheet goes; None = the batch's own setting."""

    id: str
    identity: str
    prompt: str
    base_prompt: str
    place: str
    negative_prompt: str | None = None
    image: str | None = None
    last_image: str | None = None
    seed: int | None = None
    start_step: int | str | None = None
    tail: int | str | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    lora: tuple[tuple[str, float], ...] = ()
    tags: tuple[str, ...] = ()
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """All rows of a sheet, and where relative paths in it start from."""

    name: str
    root: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Content of the rows: the same rows, the same digest, whatever the file is called."""
        rows = [[getattr(row, name) for name in Row.__dataclass_fields__ if name != "place"] for row in self.rows]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def load_sheet(settings: SheetSettings) -> Sheet:
    """Read, expand and check the sheet; raises one `SheetError` that tells every problem with its place."""
    if settings.path is None:
        raise SheetError("no sheet was named; give one: headstart run sheet=my.csv (or sheet=demo to see how it goes)")
    file = read_sheet_file(settings.path, settings.format)
    if settings.identities:
        file = _with_identities(file, read_sheet_file(settings.identities))
    reader = _Reader(file, settings.max_rows)
    rows = reader.read()
    if reader.problems:
        told = reader.problems[:MAX_TOLD]
        more = len(reader.problems) - len(told)
        lines = [f"  {problem}" for problem in told] + ([f"  ... and {more} more"] if more else [])
        noun = "problem" if len(reader.problems) == 1 else "problems"
        message = f"{len(reader.problems)} {noun} in {file.name}, nothing was run:\n" + "\n".join(lines)
        raise SheetError(message, reader.problems)
    return Sheet(name=file.name, root=file.root, rows=tuple(rows))


def _with_identities(file: SheetFile, other: SheetFile) -> SheetFile:
    found = dict(file.identities) | dict(other.identities)
    for row in other.rows:
        name = row.cells.get("identity")
        if is_empty(name):
            raise SheetError(f"{row.place}: identity is missing; every row of an identities file names one")
        found[str(name).strip()] = RawRow(
            row.place, {key: value for key, value in row.cells.items() if key != "identity"}
        )
    return SheetFile(name=file.name, root=file.root, rows=file.rows, identities=found, lists=file.lists)


@dataclass
class _Reader:
    """Walks the rows once and gathers what is wrong on the way."""

    file: SheetFile
    max_rows: int
    problems: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    taken: dict[str, str] = field(default_factory=dict)
    identities: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self) -> list[Row]:
        self._read_identities()
        parsed = [(raw, self._parse(raw)) for raw in self.file.rows]
        if not parsed and not self.problems:
            self.problems.append(f"{self.file.name}: holds no rows; one at least is needed")
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
        self._check_parents()
        return self.rows

    def _read_identities(self) -> None:
        for name, raw in self.file.identities.items():
            values = self._cells(raw, set(COLUMNS))
            for column in [column for column in values if not COLUMNS[column].of_identity]:
                self.problems.append(
                    f"{raw.place}, column {column}: does not belong to an identity; move it to the rows"
                )
            unknown = [column for column in raw.cells if column not in COLUMNS]
            self.problems += [f"{raw.place}, column {column}: unknown{nearest_column(column)}" for column in unknown]
            self.identities[name] = {column: value for column, value in values.items() if COLUMNS[column].of_identity}

    def _check_columns(self) -> None:
        """Unknown columns, once each, unless some prompt uses them as a template list."""
        used = {name for raw in self.file.rows for name in template_names(str(raw.cells.get("prompt") or ""))}
        seen: dict[str, str] = {}
        for raw in self.file.rows:
            for column in raw.cells:
                if column not in COLUMNS and column not in used:
                    seen.setdefault(column, raw.place)
        for column, place in seen.items():
            if column:
                self.problems.append(
                    f"{place}, column {column!r}: unknown{nearest_column(column)}; known are {sorted(COLUMNS)}"
                )
            elif any(not is_empty(raw.cells.get("")) for raw in self.file.rows):
                self.problems.append(
                    f"{place}: a column without a name holds values; name it in the header or remove it"
                )
        if self.file.rows:
            present = {column for raw in self.file.rows for column in raw.cells}
            for column in ("identity", "prompt"):
                if column not in present:
                    self.problems.append(
                        f"{self.file.name}: column {column!r} is missing; a sheet needs identity and prompt"
                    )

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
                f"{raw.place}, column prompt: a single brace opens or closes nothing; write {{{{ and }}}} for plain braces"
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
            seeds = tuple((seed or 0) + offset for seed in seeds for offset in range(repeat))
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
            for column in ("negative_prompt", "start_step", "tail", "guidance", "lora", "tags", "parent")
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
                    f"{raw.place}, column id: {given!r} is taken by {self.taken[given]}; ids are unique in a sheet"
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

    def _check_parents(self) -> None:
        by_id = {row.id: row for row in self.rows}
        for row in self.rows:
            if row.parent is None:
                continue
            parent = by_id.get(row.parent)
            if parent is None:
                self.problems.append(
                    f"{row.place}, column parent: {row.parent!r} is no id of this sheet{nearest_column(row.parent, list(by_id))}"
                )
            elif parent.identity != row.identity:
                self.problems.append(
                    f"{row.place}, column parent: {row.parent!r} is of identity {parent.identity!r}, this row of {row.identity!r}; both have to be of one"
                )
            elif self._is_own_ancestor(row, by_id):
                self.problems.append(
                    f"{row.place}, column parent: {row.id!r} descends from itself; remove one parent of the circle"
                )

    @staticmethod
    def _is_own_ancestor(row: Row, by_id: Mapping[str, Row]) -> bool:
        seen = {row.id}
        parent = row.parent
        while parent is not None and parent in by_id:
            if parent in seen:
                return True
            seen.add(parent)
            parent = by_id[parent].parent
        return False
