"""Name a result after everything that decides it: same recipe, same key, on any machine.

A key is the sha256 of the canonical JSON text of the recipe. Canonical means: keys sorted, no spaces, UTF-8, integers
as integers, floats as the shortest text that gives the same double back, whole floats as integers (5.0 and 5 are one
value, as in the sheet and the config they come from). Text is kept code point by code point: two prompts that only look
alike may be read differently by a text encoder, so they are two recipes.

What does not decide a result can never enter: such field names are refused at any depth, and so are values that are
machine paths. A key that silently held one would make the same work twice, or worse, never find it again.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from prior_store.errors import RecipeError

RECIPE_VERSION: Final = 1
"""Part of every recipe. It rises only when a field changes its meaning; a new field with a default is left out instead."""

VERSION_FIELD: Final = "recipe_version"

NOT_DECIDING: Final = frozenset(
    [
        "batch",
        "batch_id",
        "created_at",
        "cwd",
        "dir",
        "directory",
        "file",
        "filename",
        "folder",
        "host",
        "hostname",
        "job",
        "log_level",
        "name",
        "num_threads",
        "num_workers",
        "output",
        "output_dir",
        "path",
        "pid",
        "priority",
        "row",
        "row_id",
        "run_id",
        "tag",
        "tags",
        "threads",
        "timestamp",
        "uri",
        "url",
        "user",
        "workers",
    ]
)
"""Fields that say where, when, by whom or under which label: never what."""

_MACHINE_PATH = re.compile(r"(/|~/|\.\.?/|[A-Za-z]:[\\/]|file://)\S*\Z")
_WORDS = re.compile(r"prompt|text")
_LARGEST_WHOLE_FLOAT = 2**53


def recipe_key(recipe: Mapping[str, object]) -> str:
    """Make the key of a recipe: 64 hex digits. The only maker of keys."""
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def canonical_json(recipe: Mapping[str, object]) -> str:
    """Write a recipe in its one stable form; parsing that form and writing it again gives the same text."""
    return json.dumps(canonical_form(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical_form(recipe: Mapping[str, object]) -> dict[str, object]:
    """Give the recipe as plain JSON values in their stable forms, with its version inside."""
    version = recipe.get(VERSION_FIELD, RECIPE_VERSION)
    if type(version) is not int or version < 1:
        raise RecipeError(
            f"recipe field {VERSION_FIELD!r} is {version!r}; it must be a whole number from 1, or left out"
        )
    return {VERSION_FIELD: version, **_stable_mapping(recipe, at="")}


def _stable_mapping(value: Mapping[Any, object], at: str) -> dict[str, object]:
    stable = {}
    for name, item in value.items():
        if type(name) is not str:
            place = f"recipe field {at!r}" if at else "the recipe"
            raise RecipeError(f"{place} has the key {name!r}; keys must be text")
        where = f"{at}.{name}" if at else name
        if name.lower() in NOT_DECIDING:
            raise RecipeError(
                f"recipe field {where!r} does not decide a result and can never enter a key; leave it out "
                "(hash the content of a file instead of naming its path)"
            )
        stable[_stable_text(name, where)] = _stable(item, where)
    return stable


def _stable(value: object, at: str) -> object:
    # Exact types on purpose: numpy scalars and enums subclass these and print differently from release to release.
    if value is None or type(value) in (bool, int):
        return value
    if type(value) is float:
        return _stable_float(value, at)
    if type(value) is str:
        text = _stable_text(value, at)
        if _MACHINE_PATH.match(text) and not _WORDS.search(at):
            raise RecipeError(f"recipe field {at!r} is the machine path {value!r}; use the sha256 of what lies there")
        return text
    if isinstance(value, Mapping):
        return _stable_mapping(value, at)
    if type(value) in (list, tuple):
        return [_stable(item, f"{at}[{i}]") for i, item in enumerate(value)]  # type: ignore[var-annotated,arg-type]
    raise RecipeError(
        f"recipe field {at!r} is a {type(value).__module__}.{type(value).__name__}; a recipe may hold only text, whole "
        "numbers, floats, booleans, None, lists and mappings, so that its key never drifts (for a picture or a tensor, "
        "put the sha256 of its content)"
    )


def _stable_float(value: float, at: str) -> float | int:
    if not math.isfinite(value):
        raise RecipeError(f"recipe field {at!r} is {value!r}; only finite numbers have a stable form")
    return int(value) if value.is_integer() and abs(value) < _LARGEST_WHOLE_FLOAT else value


def _stable_text(value: str, at: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RecipeError(f"recipe field {at!r} holds {value!r}, which is not valid Unicode; clean the text") from None
    return value
