"""What a setting needs, in words: "'auto' or a whole number from 1"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS: dict[Any, str] = {bool: "true or false", str: "text", dict: "a mapping such as {name: value}", NoneType: "null"}
_NUMBERS: dict[Any, str] = {int: "a whole number", float: "a number"}


def needed(kind: Any, bounds: Iterable[Any] = ()) -> str | None:
    """What a value of this type has to be; None where only the type's own words can say it."""
    said = _said(kind, list(bounds))
    return None if None in said else _either([part for part in said if part is not None])


def _said(kind: Any, bounds: list[Any]) -> list[str | None]:
    """One entry an alternative."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        own = [bound for item in inner[1:] for bound in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _said(inner[0], bounds + own)
    if origin is Literal:
        return [repr(choice) for choice in inner]
    if origin in (Union, UnionType):
        # Null is told first: behind a list it would read as one of its entries.
        return [part for one in sorted(inner, key=lambda one: one is not NoneType) for part in _said(one, bounds)]
    if kind in _NUMBERS:
        return [_NUMBERS[kind] + _range(bounds)]
    if origin is tuple:
        entry = needed(inner[0])
        filled = ", not empty" if any(getattr(bound, "min_length", 0) for bound in bounds) else ""
        return [f"a list in brackets{filled}, each entry {entry}" if entry else None]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [f"a mapping with {', '.join(kind.model_fields)}"]
    return [_WORDS.get(origin or kind)]


def _range(bounds: Sequence[Any]) -> str:
    at = {name: getattr(bound, name) for bound in bounds for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)}
    if {"ge", "le"} <= set(at):
        return f" from {at['ge']} to {at['le']}"
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    said = [f"{word} {at[name]}" for name, word in words.items() if name in at]
    return f" {' and '.join(said)}" if said else ""


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}"
