"""Names of rows: unique in a sheet, and the same each time that the sheet is read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Names:
    """Gives names, and tells of one that is given twice."""

    problems: list[str]
    _taken: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)

    def given(self, name: str, place: str) -> str:
        """A name that the sheet itself gives."""
        if name in self._taken:
            self.problems.append(
                f"{place}, column id: {name!r} is already used at {self._taken[name]}; ids must be unique in a sheet"
            )
        self._taken[name] = place
        return name

    def made(self, stem: str, place: str) -> str:
        """A name that starts with `stem`, with a number where that is taken."""
        name, number = stem, self._numbers.get(stem, 2)
        while name in self._taken:
            name, number = f"{stem}-{number}", number + 1
        self._numbers[stem] = number
        self._taken[name] = place
        return name
