"""Makes many rows out of one: templates times lists, several identities, seed ranges, repeats. Counted before any is made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.settings import MAX_SEED
from tasks.sheets.columns import COLUMNS, MAX_TEXT, is_empty, refused
from tasks.sheets.names import Names
from tasks.sheets.raw import RawRow, shown
from tasks.sheets.rows import Row
from tasks.sheets.templates import Template, combinations, first_words, list_cell

MAX_TEMPLATES = 50
# Letters that filling in templates may make, for each row that a sheet may have: what is written out in full is not counted.
_LETTERS_A_ROW = 500
_OF_IDENTITY = [name for name, column in COLUMNS.items() if column.of_identity and name not in {"seed", "base_prompt"}]
_OF_ROW = ["negative_prompt", "start_step", "start", "tail", "guidance", "lora", "tags", "parent"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A raw row that can be expanded: its values, its prompt taken apart, the lists of its templates."""

    raw: RawRow
    values: Mapping[str, Any]
    prompt: Template
    lists: Mapping[str, Sequence[str]]


@dataclass
class Expansion:
    """The rows of a sheet as they come to be; what is wrong is told in `problems`."""

    lists: Mapping[str, tuple[str, ...]]
    identities: dict[str, dict[str, Any]]
    seed: int
    max_rows: int
    problems: list[str]
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._names = Names(self.problems)
        self._known = shown(sorted(self.lists))
        self._letters = 0
        self._base_prompts: dict[tuple[str, str], str] = {}

    def wanted(self, raw: RawRow, values: Mapping[str, Any], prompt: Template) -> Wanted | None:
        """The row with what it is filled from, or None, with the problem told."""
        names = [name for name in prompt.names if name != "identity"]
        problem = None
        if prompt.stray:
            problem = "a single brace has no partner; write {{ and }} for plain braces"
        elif len(names) > MAX_TEMPLATES:
            problem = f"holds {len(names)} different templates; at most {MAX_TEMPLATES} are allowed"
        else:
            lists = {name: self._list_of(raw, name) for name in names}
            missing = next((name for name, found in lists.items() if not found), None)
            if missing is None:
                return Wanted(raw, values, prompt, lists)
            problem = (
                f"template {{{missing[:100]}}} has no list; add a column {shown(missing)} with values separated by |, "
                f"or a lists: section (lists here: {self._known})"
            )
        self.problems.append(f"{raw.place}, column prompt: {problem}")
        return None

    def _list_of(self, raw: RawRow, name: str) -> tuple[str, ...]:
        cell = raw.cells.get(name)
        if name in COLUMNS or is_empty(cell) or refused(cell):
            return self.lists.get(name, ())
        return list_cell(cell)

    def fits(self, all_wanted: Iterable[Wanted]) -> bool:
        """Whether the rows are not too many, counted before any is made."""
        total = 0
        for wanted in all_wanted:
            repeat = wanted.values.get("repeat", 1)
            choices = math.prod(map(len, wanted.lists.values())) * repeat
            for identity in wanted.values["identity"]:
                seeds = self._seeds(wanted, identity)
                last = self.seed if seeds[-1] is None else seeds[-1]
                if repeat > 1 and last + repeat - 1 > MAX_SEED:
                    self.problems.append(
                        f"{wanted.raw.place}, column repeat: the seeds would go on past {MAX_SEED}, the largest; start lower"
                    )
                    return False
                total += choices * len(seeds)
                if total > self.max_rows:
                    self.problems.append(
                        f"{wanted.raw.place}: more than {self.max_rows} rows after expansion; raise sheet.max_rows or split the sheet"
                    )
                    return False
        return True

    def _seeds(self, wanted: Wanted, identity: str) -> Sequence[int | None]:
        return wanted.values.get("seed") or self.identities.get(identity, {}).get("seed") or (None,)

    def make(self, all_wanted: Iterable[Wanted]) -> None:
        """Make the rows, in order; stop where their texts grow out of bounds."""
        for wanted in all_wanted:
            for identity in wanted.values["identity"]:
                for choice in combinations(wanted.lists):
                    problem = self._too_long(wanted, {**choice, "identity": identity})
                    if problem is not None:
                        self.problems.append(f"{wanted.raw.place}, column prompt: {problem}")
                        return
                    self._add(wanted, identity, choice)

    def _too_long(self, wanted: Wanted, filling: Mapping[str, str]) -> str | None:
        length = wanted.prompt.length(filling)
        if length > MAX_TEXT:
            return f"would be {length} characters long with its templates filled in; at most {MAX_TEXT} are allowed"
        if self._letters > self.max_rows * _LETTERS_A_ROW:
            return (
                f"the templates up to here make more than {self.max_rows * _LETTERS_A_ROW} characters, "
                f"{_LETTERS_A_ROW} for each of sheet.max_rows={self.max_rows} rows; raise sheet.max_rows or split the sheet"
            )
        return None

    def _add(self, wanted: Wanted, identity: str, choice: Mapping[str, str]) -> None:
        """Add the rows of one text, one for each seed."""
        values, place = wanted.values, wanted.raw.place
        prompt = self._filled(wanted.prompt, {**choice, "identity": identity})
        if not prompt.strip():
            self.problems.append(f"{place}, column prompt: is empty with its templates filled in; every row needs one")
            return
        own = self.identities.setdefault(identity, {})
        base_prompt = values.get("base_prompt") or own.get("base_prompt") or prompt
        # The first row of an identity without a base prompt lends it its own, so that all rows share one prior.
        own.setdefault("base_prompt", base_prompt)
        if (base_prompt, identity) not in self._base_prompts:
            filled = self._filled(Template(base_prompt), {"identity": identity})
            self._base_prompts[base_prompt, identity] = filled
        same: dict[str, Any] = {column: values.get(column, own.get(column)) for column in _OF_IDENTITY}
        same |= {column: values[column] for column in _OF_ROW if column in values}
        seeds, repeat = self._seeds(wanted, identity), values.get("repeat", 1)
        many = len(seeds) * repeat > 1
        expanded = bool(choice) or len(values["identity"]) > 1
        made = first_words(" ".join(choice.values()) if choice else prompt)
        for seed in self._repeated(seeds, repeat):
            name = values.get("id")
            if name is None or expanded or many:
                stem = name or made or f"row-{len(self.rows) + 1}"
                stem = f"{identity}-{stem}" if expanded or name is None else stem
                name = self._names.made(f"{stem}-s{seed}" if many and seed is not None else stem, place)
            else:
                name = self._names.given(name, place)
            self.rows.append(
                Row(
                    id=name,
                    identity=identity,
                    prompt=prompt,
                    base_prompt=self._base_prompts[base_prompt, identity],
                    seed=seed,
                    place=place,
                    **same,
                )
            )

    def _filled(self, text: Template, values: Mapping[str, str]) -> str:
        if text.is_plain:
            return text.text
        filled = text.filled(values)
        self._letters += len(filled)
        return filled

    def _repeated(self, seeds: Sequence[int | None], repeat: int) -> Iterator[int | None]:
        if repeat == 1:
            return iter(seeds)
        return ((self.seed if seed is None else seed) + offset for seed in seeds for offset in range(repeat))
