"""The list of everything: small immutable Parquet files, one for each commit or chunk, and their compacted union.

A reader sees exactly one row per key: the latest, where a finished row stands above one without files (a failure that
another machine's clock dates later never hides a finished video) until a removal buries it. What is later does not follow
from clocks: a row is dated after all rows of its key that were there when it was written. The manifest is an index; the
truth is in the commit records, and `repair` can rebuild the rows from them.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import DamagedError
from prior_store.manifest import schema
from prior_store.manifest.parquet import (
    Compacted,
    Filter,
    damage_told,
    facts_of,
    fragment_bytes,
    newest_us,
    parsed_fragment,
)
from prior_store.manifest.ranking import RANKED, latest, reduced, won_by_second

_VANISHED: Final = 5

T = TypeVar("T")
Over = dict[str, str] | None
"""Takes the names of damaged files that are passed over, with the reason; None: damage is an error."""


class Manifest:
    """Adds rows and answers questions about them."""

    def __init__(self, files: Files) -> None:
        self._files = files
        # Manifest files never change, so what was parsed once stays true for as long as the file is listed.
        self._tables: dict[str, pa.Table] = {}
        self._facts: dict[str, tuple[frozenset[str], int]] = {}
        self.passed_over: dict[str, str] = {}
        """Files that the last look at all rows had to leave out, and why."""

    def add(self, rows: Iterable[Mapping[str, Any]]) -> str | None:
        """Write rows as one new fragment; give its path, or None for no rows."""
        rows = list(rows)
        if not rows:
            return None
        table = schema.table_of(rows, self._steadily(lambda: self._ahead({str(row.get("key")) for row in rows})))
        path = layout.fragment_path(layout.LOG, lambda: max(time.time_ns(), 1000 * newest_us(table)))
        self._files.put(path, fragment_bytes(table))
        return path

    def read(
        self, keep: Filter | None = None, columns: Sequence[str] | None = None, *, past_damage: bool = False
    ) -> pa.Table:
        """Give one row per key, those that `keep` holds for; rows of removed objects are not shown."""
        shown = pc.field("status") != schema.REMOVED
        return self.winners(shown if keep is None else shown & keep, columns, past_damage=past_damage)

    def known(self, kind: str) -> set[str]:
        """Give the keys of a kind that are done."""
        done = (pc.field("kind") == layout.checked_kind(kind)) & (pc.field("status") == schema.DONE)
        return set(self.read(done, ["key"])["key"].to_pylist())

    def rows_by_key(self, keys: Iterable[str], columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Look many keys up at once; those without a row are left out, and those whose row cannot be read."""
        wanted = pa.array(sorted(set(keys)), pa.string())
        if columns is not None:
            columns = list(dict.fromkeys(["key", *columns]))
        found = self.read(pc.field("key").isin(wanted), columns, past_damage=True)
        return {row["key"]: row for row in schema.rows_of(found)}

    def winners(
        self, keep: Filter | None, columns: Sequence[str] | None = None, *, past_damage: bool = False
    ) -> pa.Table:
        """Give one row per key, removed ones too. `past_damage` leaves out what cannot be read, and `passed_over` names it."""
        columns = list(columns or schema.SCHEMA.names)
        over: Over = {} if past_damage else None
        found = self._steadily(lambda: self._winners(keep, columns, over))
        if over is not None:
            self.passed_over = over
        return found

    def listed(self, over: Over = None) -> tuple[list[str], list[str]]:
        """List the fragments and the compacted files that count, whatever compactions do meanwhile."""
        # Fragments first: one that vanishes after this is in a compacted file that the second listing has. The second
        # listing is repeated until it stands still, since a disk's listing is no snapshot.
        while True:
            log = self._files.find(layout.LOG)
            base = self._files.find(layout.BASE)
            if not base or list(self._files.find(layout.BASE)) == list(base):
                break
        absorbed: set[str] = set()
        for path in filter(_is_fragment, base):
            if path not in (over or {}):
                absorbed |= _past_damage(path, partial(self.absorbed, path), over) or frozenset()
        return (
            [path for path in log if _is_fragment(path) and path not in absorbed],
            [path for path in base if _is_fragment(path) and path not in absorbed and path not in (over or {})],
        )

    def absorbed(self, path: str) -> frozenset[str]:
        """Tell which files a compacted file stands for."""
        return self._facts_of(path)[0]

    def tables(self, paths: Iterable[str], over: Over = None) -> list[pa.Table]:
        """Parse whole manifest files, each only once."""
        paths = list(paths)
        # A copy: another thread may forget what it no longer sees while we still need it.
        parsed = {path: table for path in paths if (table := self._tables.get(path)) is not None}
        missing = [path for path in paths if path not in parsed]
        for path, content in self._files.read_many(missing).items():
            if content is None:
                raise FileNotFoundError(path)
            table = _past_damage(path, partial(parsed_fragment, path, content), over)
            if table is not None:
                parsed[path] = self._tables[path] = table
        return [parsed[path] for path in paths if path in parsed]

    def forget(self, listed: Iterable[str]) -> None:
        """Drop what was parsed and is listed no more."""
        keep = set(listed)
        self._tables = {path: table for path, table in list(self._tables.items()) if path in keep}

    def _winners(self, keep: Filter | None, columns: list[str], over: Over) -> pa.Table:
        while True:
            log, bases = self.listed(over)
            self.forget([*log, *bases])
            # All but the largest compacted file are small or short-lived; they are laid over it in memory.
            sizes = {path: self._files.size(path) or 0 for path in bases} if len(bases) > 1 else {}
            bases = sorted(bases, key=lambda path: sizes.get(path, 0))
            rows = pa.concat_tables([schema.SCHEMA.empty_table(), *self.tables([*bases[:-1], *log], over)])
            if not bases:
                return _shown(latest(rows), keep, columns)
            main = Compacted(self._files, bases[-1])
            found = _past_damage(bases[-1], partial(_laid_over, main, rows, keep, columns), over)
            if found is not None:
                return found

    def _ahead(self, keys: set[str]) -> dict[str, dt.datetime]:
        """Give the newest row of keys, where it is dated later than our clock says now: as a rule there is none."""
        now, over = int(1_000_000 * schema.utc_now().timestamp()), dict[str, str]()
        log = [f"{layout.LOG}/{name}" for name in self._files.names(layout.LOG) if layout.fragment_time(name) >= now]
        bases = [f"{layout.BASE}/{name}" for name in self._files.names(layout.BASE) if layout.fragment_time(name)]
        wanted, columns = pc.field("key").isin(pa.array(sorted(keys), pa.string())), ["key", "recorded_at"]
        rows = [table.filter(wanted).select(columns) for table in self.tables(log, over)]
        for path in bases:
            facts = _past_damage(path, partial(self._facts_of, path), over)
            if facts is not None and facts[1] >= now:
                main = Compacted(self._files, path)
                found = _past_damage(path, partial(main.read, wanted, columns), over)
                rows += [] if found is None else [found]
        if not rows:
            return {}
        newest = pa.concat_tables(rows).group_by("key").aggregate([("recorded_at", "max")])
        return dict(zip(newest["key"].to_pylist(), newest["recorded_at_max"].to_pylist(), strict=True))

    def _facts_of(self, path: str) -> tuple[frozenset[str], int]:
        """Which files a compacted file stands for, and the microseconds of its newest row."""
        facts = self._facts.get(path)
        if facts is None:
            source, filesystem = self._files.arrow_source(path)
            with damage_told(path):
                facts = self._facts[path] = facts_of(pq.read_metadata(source, filesystem=filesystem))
        return facts

    def _steadily(self, look: Callable[[], T]) -> T:
        for _ in range(_VANISHED):
            try:
                return look()
            except FileNotFoundError:
                continue  # a compaction took away what we had listed; its rows are in a file that is there now
        return look()


def _laid_over(main: Compacted, rows: pa.Table, keep: Filter | None, columns: list[str]) -> pa.Table:
    """Lay rows over the largest compacted file."""
    overlay = latest(rows)
    if overlay.num_rows == 0:
        return main.read(keep, columns)
    below = main.read(pc.field("key").isin(overlay["key"].combine_chunks()), list(RANKED))
    beaten = won_by_second(reduced(rows).select(RANKED), below.select(RANKED))
    overlay = overlay.filter(pc.invert(pc.is_in(overlay["key"], beaten)))
    below = main.read(keep, [*dict.fromkeys([*columns, "key"])])
    below = below.filter(pc.invert(pc.is_in(below["key"], overlay["key"].combine_chunks())))
    return pa.concat_tables([below.select(columns), _shown(overlay, keep, columns)])


def _past_damage(path: str, read: Callable[[], T], over: Over) -> T | None:
    """Read a file; where damage may be passed over, None for one that cannot be read, which is named."""
    try:
        return read()
    except DamagedError as error:
        if over is None:
            raise
        over[path] = str(error)
        return None


def _shown(table: pa.Table, keep: Filter | None, columns: list[str]) -> pa.Table:
    return (table if keep is None else table.filter(keep)).select(columns)


def _is_fragment(path: str) -> bool:
    return path.endswith(".parquet") and not layout.is_temporary(path.rsplit("/", 1)[-1])
