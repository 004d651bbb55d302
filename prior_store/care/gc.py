"""Free room: what no row names, no live claim covers and no grace time protects; and, on demand, what is old.

Nothing is removed without being asked twice: the default only tells. A removal never makes the manifest lie: the row
goes first, then the commit record, then the files. And it never trips a writer: the attempts of a key that is not
committed are removed only under a lease of our own, which fences whoever wrote them.
"""

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow.compute as pc

from prior_store import layout
from prior_store.backends.files import Entry
from prior_store.care.inventory import Inventory, take_inventory
from prior_store.errors import NoSpaceError
from prior_store.manifest import schema
from prior_store.objects import lease
from prior_store.objects.commit import Commit
from prior_store.objects.holdings import Holdings

GRACE_S: Final = 24 * 3600.0
LIVE_TTLS: Final = 4
FENCE_TTL_S: Final = 5.0
"""Short: a cleaner that is killed must not keep a key from those who want to make it."""

UNFINISHED: Final = "half-written file"
ABANDONED: Final = "abandoned attempt"
LEASE: Final = "lease of a finished object"
RETIRED: Final = "retired"
UNUSED_STEP: Final = "snapshot that no variant started from"
OLD_EMBEDDING: Final = "old embedding"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file that goes, and why."""

    path: str
    bytes: int
    why: str
    kind: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which finished objects may go: all that is set must hold. Nothing set: none."""

    older_than_s: float | None = None
    batches: Collection[str] = ()
    tags: Collection[str] = ()
    kinds: Collection[str] = layout.KINDS

    @property
    def chosen(self) -> bool:
        """Tell whether anything was asked for."""
        return self.older_than_s is not None or bool(self.batches) or bool(self.tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What went, or would go."""

    items: tuple[Item, ...]
    dry_run: bool

    @property
    def bytes(self) -> int:
        """Add up the room that it frees."""
        return sum(item.bytes for item in self.items)


def gc(
    store: Holdings,
    *,
    dry_run: bool = True,
    grace_s: float = GRACE_S,
    retention: Retention | None = None,
    unused_steps: bool = False,
    embeddings_older_than_s: float | None = None,
    clock: Callable[[], float] | None = None,
) -> Collected:
    """Collect what may go; with `dry_run=False` remove it. Safe beside writers, readers and other cleaners."""
    if not dry_run:
        store.require_writable()
    # Age is judged by the clock that dated the files: this machine's may be off by any time, and only tells.
    now = (clock or (time.time if dry_run else store.files.now))()
    collector = _Collector(store, dry_run=dry_run, grace_s=grace_s, now=now)
    for kind in layout.KINDS:
        collector.leftovers(kind, take_inventory(store.files, kind))
    if retention is not None and retention.chosen:
        collector.retired(retention)
    if unused_steps:
        collector.unused_steps()
    collector.half_written()
    if embeddings_older_than_s is not None:
        collector.embeddings(max(embeddings_older_than_s, grace_s))
    return Collected(items=tuple(collector.items), dry_run=dry_run)


class _Collector:
    def __init__(self, store: Holdings, *, dry_run: bool, grace_s: float, now: float) -> None:
        self.items: list[Item] = []
        self._store, self._files = store, store.files
        self._dry_run, self._grace_s, self._now = dry_run, grace_s, now

    def leftovers(self, kind: str, inventory: Inventory) -> None:
        """Attempts that never became a commit, and leases that outlived one."""
        torn = {problem.key for problem in inventory.broken}
        for key, entries in inventory.entries.items():
            if key in torn:
                continue  # for `repair` to look at
            commit = inventory.commits.get(key)
            folder = f"{layout.object_dir(kind, key)}/"
            if commit is None:
                self._uncommitted(kind, key, folder, entries)
                continue
            kept = {commit.path(name) for name in commit.files} | {layout.commit_path(kind, key)}
            for path, entry in entries.items():
                if path not in kept and self._is_old(entry):
                    inside = "/" in path.removeprefix(folder)
                    self._remove(
                        Item(path=path, bytes=entry.bytes, why=ABANDONED if inside else LEASE, kind=kind, key=key)
                    )

    def _uncommitted(self, kind: str, key: str, folder: str, entries: dict[str, Entry]) -> None:
        attempts = {path: entry for path, entry in entries.items() if "/" in path.removeprefix(folder)}
        if not attempts:
            return
        holder = lease.Watch(self._files, kind, key, time.monotonic).current()
        protected_s = max(self._grace_s, LIVE_TTLS * holder.ttl_s if holder else 0.0)
        if holder is not None and lease.is_released(self._files, kind, key, holder):
            protected_s = self._grace_s
        if self._now - max(entry.modified for entry in entries.values()) < protected_s:
            return
        items = [
            Item(path=path, bytes=entry.bytes, why=ABANDONED, kind=kind, key=key) for path, entry in attempts.items()
        ]
        if self._dry_run:
            self.items += items
            return
        try:
            fence = lease.take(self._files, kind, key, holder.generation + 1 if holder else 1, FENCE_TTL_S)
        except NoSpaceError:
            # On a full disk the lease of whoever wrote these takes its place: without it nobody can publish them.
            if holder is not None:
                self._files.remove(layout.claim_path(kind, key, holder.generation))
            if self._store.commit_of(kind, key) is None:
                for item in items:
                    self._remove(item)
            return
        if fence is None:
            return  # somebody began to work on it just now
        committed = False
        fence.start()
        try:
            commit = self._store.commit_of(kind, key)
            committed = commit is not None
            for item in items:
                if commit is None or not item.path.startswith(f"{folder}{commit.attempt}/"):
                    self._remove(item)
        finally:
            fence.end(committed=committed)

    def retired(self, retention: Retention) -> None:
        """Whole objects that the caller chose."""
        chosen = self._chosen_rows(retention)
        if not chosen:
            return
        left = iter(chosen)
        if not self._dry_run:
            rows = [
                {"kind": row["kind"], "key": row["key"], "status": schema.REMOVED, "batch": row["batch"]}
                for row in chosen
            ]
            while not self._listed(rows):
                # A full disk has no room even for the rows that say what goes: the objects make it, one by one. A row
                # that names nothing for a moment does no harm, since whoever counts on an object looks at it.
                row = next(left, None)
                if row is None:
                    break
                self._retire(row)
        for row in left:
            self._retire(row)

    def _listed(self, rows: list[dict[str, Any]]) -> bool:
        try:
            self._store.add_rows(rows)
        except NoSpaceError:
            return False
        return True

    def _retire(self, row: dict[str, Any]) -> None:
        folder = layout.object_dir(row["kind"], row["key"])
        commit = layout.commit_path(row["kind"], row["key"])
        entries = self._files.find(folder)
        # Leases first (harmless while there is a commit), then the commit, then what it named.
        order = sorted(entries, key=lambda path: (path.count("/") != commit.count("/"), path == commit, path))
        for path in order:
            item = Item(path=path, bytes=entries[path].bytes, why=RETIRED, kind=row["kind"], key=row["key"])
            self._remove(item)

    def _chosen_rows(self, retention: Retention) -> list[dict[str, Any]]:
        keep = (pc.field("status") == schema.DONE) & pc.field("kind").isin(list(retention.kinds))
        if retention.batches:
            keep &= pc.field("batch").isin(list(retention.batches))
        if retention.older_than_s is not None:
            before = dt.datetime.fromtimestamp(self._now - retention.older_than_s, dt.UTC)
            keep &= pc.field("created_at") <= before
        rows = schema.rows_of(self._store.manifest(keep, ["kind", "key", "batch", "tags"]))
        wanted = set(retention.tags)
        chosen = [row for row in rows if not wanted or wanted & set(row["tags"] or ())]
        # The grace time protects what is young by the store's clock, whatever the machine that made it says.
        age_s = max(retention.older_than_s or self._grace_s, self._grace_s)
        return [row for row in chosen if self._is_old_object(row["kind"], row["key"], age_s)]

    def unused_steps(self) -> None:
        """Snapshots of priors that no variant ever started from; the last one is the result and stays."""
        used: dict[str, set[int]] = {}
        columns = ["parent_key", "start_step"]
        started = self._store.manifest(pc.field("parent_key").is_valid() & pc.field("start_step").is_valid(), columns)
        for parent, step in zip(*(started[name].to_pylist() for name in columns), strict=True):
            used.setdefault(parent, set()).add(step)
        for commit, entries in self._old_priors():
            steps = commit.steps
            spare = [
                name for step, name in steps.items() if step not in used.get(commit.key, ()) and step != max(steps)
            ]
            if not spare:
                continue
            if not self._dry_run:
                lighter = replace(commit, files={name: i for name, i in commit.files.items() if name not in spare})
                lighter = lighter.with_row(commit.row)
                # The only record that is ever replaced, and only by one that names less.
                self._files.put(layout.commit_path(commit.kind, commit.key), lighter.to_json())
                self._store.add_rows([lighter.row])
            for name in spare:
                path = commit.path(name)
                if path in entries:
                    why = UNUSED_STEP
                    self._remove(Item(path=path, bytes=entries[path].bytes, why=why, kind=commit.kind, key=commit.key))

    def _old_priors(self) -> Iterator[tuple[Commit, dict[str, Entry]]]:
        inventory = take_inventory(self._store.files, layout.PRIORS)
        for key, commit in inventory.commits.items():
            entries = inventory.entries[key]
            if self._is_old(entries[layout.commit_path(layout.PRIORS, key)]):
                yield commit, entries

    def half_written(self) -> None:
        """What a kill in the middle of a local write leaves."""
        listed = {item.path for item in self.items}
        for room in layout.ROOMS:
            for path, entry in self._files.find(room).items():
                half = layout.is_temporary(path.rsplit("/", 1)[-1]) and path not in listed
                if half and self._is_old(entry):
                    self._remove(Item(path=path, bytes=entry.bytes, why=UNFINISHED))

    def embeddings(self, age_s: float) -> None:
        """Embeddings nobody wrote lately; they are made again when needed."""
        for path, entry in self._files.find(layout.EMBEDDINGS).items():
            if self._now - entry.modified >= age_s and not layout.is_temporary(path.rsplit("/", 1)[-1]):
                self._remove(Item(path=path, bytes=entry.bytes, why=OLD_EMBEDDING))

    def _is_old_object(self, kind: str, key: str, age_s: float) -> bool:
        record = self._files.find(layout.object_dir(kind, key)).get(layout.commit_path(kind, key))
        return record is None or self._now - record.modified >= age_s

    def _is_old(self, entry: Entry) -> bool:
        return self._now - entry.modified >= self._grace_s

    def _remove(self, item: Item) -> None:
        if not self._dry_run:
            self._files.remove(item.path)
        self.items.append(item)
