"""Texts with `{templates}` in them, and the lists that templates are filled from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice, product
from typing import Any

_TOKENS = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")
_PLAIN = {"{{": "{", "}}": "}", "{": "{", "}": "}"}


class Template:
    """What has to be known of a text before it is filled; `{{` and `}}` are plain braces."""

    __slots__ = ("_letters", "_times", "names", "stray", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        parts = _TOKENS.split(text) if "{" in text or "}" in text else [text]
        tokens = Counter(parts[1::2])
        self._times = {token[1:-1]: times for token, times in tokens.items() if token not in _PLAIN}
        self._letters = sum(map(len, parts[::2])) + sum(times for token, times in tokens.items() if token in _PLAIN)
        self.names = tuple(self._times)
        """The names in braces, in order."""
        self.stray = "{" in tokens or "}" in tokens
        """Whether a brace opens or closes nothing."""

    @property
    def is_plain(self) -> bool:
        """Whether there is no brace in it."""
        return self._letters == len(self.text)

    def length(self, values: Mapping[str, str]) -> int:
        """How long the text is when it is filled."""
        return self._letters + sum(
            times * (len(values[name]) if name in values else len(name) + 2) for name, times in self._times.items()
        )

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with its names replaced. Values are put in as they are, never read as templates again."""
        pieces, holes = _pieces(self.text)
        pieces = [*pieces]
        for index, name in holes:
            pieces[index] = values.get(name, pieces[index])
        return "".join(pieces)


@lru_cache(maxsize=32)
def _pieces(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The text in pieces, and which of them are to be replaced."""
    pieces, holes = _TOKENS.split(text), []
    for index in range(1, len(pieces), 2):
        token = pieces[index]
        if token in _PLAIN:
            pieces[index] = _PLAIN[token]
        else:
            holes.append((index, token[1:-1]))
    return pieces, holes


def combinations(lists: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Every choice of one value a name; a single empty choice when there are no names."""
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))


def list_cell(value: Any) -> tuple[str, ...]:
    """The values of a template column: a list, or text with `|` between."""
    parts = value if isinstance(value, list | tuple) else str(value).split("|")
    return tuple(text for text in (str(part).strip() for part in parts) if text)


@lru_cache(maxsize=32)
def first_words(text: str) -> str:
    """A readable name, made of the first words; empty where there are none in Latin letters."""
    words = re.finditer(r"[a-z0-9]+", text.lower())
    return "-".join(match.group() for match in islice(words, 6))[:40].strip("-")
