"""Everything that lies under the keys of one kind: one listing, and the commit records."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from prior_store import layout
from prior_store.backends.files import Entry, Files
from prior_store.care.problems import TORN_COMMIT, Problem
from prior_store.errors import DamagedError
from prior_store.objects.commit import Commit

_CHUNK: Final = 1000


@dataclass(slots=True, kw_only=True)
class Inventory:
    """Everything that lies under the keys of one kind, from one listing."""

    commits: dict[str, Commit] = field(default_factory=dict)
    broken: list[Problem] = field(default_factory=list)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)
    """key -> path -> what the listing says."""
    foreign: list[str] = field(default_factory=list)


def take_inventory(files: Files, kind: str) -> Inventory:
    """List all objects of a kind and read their commit records."""
    inventory = Inventory()
    for path, entry in files.find(kind).items():
        key = _key_of(path)
        if key is None:
            inventory.foreign.append(path)
        else:
            inventory.entries.setdefault(key, {})[path] = entry
    committed = [key for key, paths in inventory.entries.items() if layout.commit_path(kind, key) in paths]
    for chunk in _chunks(committed):
        contents = files.read_many(layout.commit_path(kind, key) for key in chunk)
        for key in chunk:
            path = layout.commit_path(kind, key)
            content = contents[path]
            if content is None:
                continue  # cleaned up meanwhile
            try:
                inventory.commits[key] = Commit.from_json(content, kind, key)
            except DamagedError as error:
                inventory.broken.append(Problem(what=TORN_COMMIT, kind=kind, key=key, path=path, text=str(error)))
    return inventory


def _key_of(path: str) -> str | None:
    parts = path.split("/")
    if len(parts) not in (4, 5) or parts[1] != parts[2][:2]:
        return None
    try:
        return layout.checked_key(parts[2])
    except KeyError:
        return None


def _chunks(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
