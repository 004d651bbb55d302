"""Makes many rows out of one: `{templates}` times lists, several identities, seed ranges, repeats."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def template_names(text: str) -> list[str]:
    """The names in braces, in order; `{{` and `}}` are plain braces."""
    names = [match.group(1) for match in _BRACES.finditer(text) if match.group(1) is not None]
    return list(dict.fromkeys(names))


def stray_braces(text: str) -> bool:
    """A brace that opens or closes nothing."""
    return any(match.group(0) in {"{", "}"} for match in _BRACES.finditer(text))


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with its templates replaced. Values are put in as they are, never read as templates again."""

    def one(match: re.Match[str]) -> str:
        if match.group(1) is not None:
            return values.get(match.group(1), match.group(0))
        return match.group(0)[0]

    return _BRACES.sub(one, text)


def combinations(names: Sequence[str], lists: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Every choice of one value a name; a single empty choice when there are no names."""
    for values in itertools.product(*(lists[name] for name in names)):
        yield dict(zip(names, values, strict=True))


def list_cell(value: Any) -> tuple[str, ...]:
    """The values of a template column: a list, or text with `|` between."""
    parts = value if isinstance(value, list | tuple) else str(value).split("|")
    return tuple(text for text in (str(part).strip() for part in parts) if text)


def row_name(prompt: str, choice: Mapping[str, str], number: int) -> str:
    """A readable name for a row without id: what the templates said, else the prompt's first words, else its number."""
    source = " ".join(choice.values()) if choice else prompt
    words = re.findall(r"[a-z0-9]+", source.lower())
    name = "-".join(words[:6])[:40].strip("-")
    return name or f"row-{number}"
