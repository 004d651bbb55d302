"""The list of everything: small immutable Parquet files, one for each commit or chunk, and their compacted union.

A reader sees exactly one row per key: the latest, where a finished row stands above one without files (a failure that
another machine's clock dates later never hides a finished video) until a removal buries it. The manifest is an index;
the truth is in the commit records, and `repair` can rebuild the rows from them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.manifest import schema
from prior_store.manifest.parquet import ABSORBED, Compacted, Filter, damage_told, fragment_bytes
from prior_store.manifest.ranking import RANKED, latest, reduced, won_by_second

_VANISHED: Final = 5


class Manifest:
    """Adds rows and answers questions about them."""

    def __init__(self, files: Files) -> None:
        self._files = files
        # Manifest files never change, so what was parsed once stays true for as long as the file is listed.
        self._tables: dict[str, pa.Table] = {}
        self._absorbed: dict[str, frozenset[str]] = {}

    def add(self, rows: Iterable[Mapping[str, Any]]) -> str | None:
        """Write rows as one new fragment; give its path, or None for no rows."""
        table = schema.table_of(rows)
        if table.num_rows == 0:
            return None
        path = layout.fragment_path(layout.LOG)
        self._files.put(path, fragment_bytes(table))
        return path

    def read(self, keep: Filter | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Give one row per key, those that `keep` holds for; rows of removed objects are not shown."""
        shown = pc.field("status") != schema.REMOVED
        return self.winners(shown if keep is None else shown & keep, columns)

    def known(self, kind: str) -> set[str]:
        """Give the keys of a kind that are done."""
        done = (pc.field("kind") == layout.checked_kind(kind)) & (pc.field("status") == schema.DONE)
        return set(self.read(done, ["key"])["key"].to_pylist())

    def rows_by_key(self, keys: Iterable[str], columns: Sequence[str] | None = None) -> dict[str, dict[str, Any]]:
        """Look many keys up at once; those without a row are left out."""
        wanted = pa.array(sorted(set(keys)), pa.string())
        if columns is not None:
            columns = list(dict.fromkeys(["key", *columns]))
        return {row["key"]: row for row in schema.rows_of(self.read(pc.field("key").isin(wanted), columns))}

    def winners(self, keep: Filter | None, columns: Sequence[str] | None = None) -> pa.Table:
        """Give one row per key, removed ones too."""
        columns = list(columns or schema.SCHEMA.names)
        for _ in range(_VANISHED):
            try:
                return self._winners(keep, columns)
            except FileNotFoundError:
                continue  # a compaction took away what we had listed; its rows are in a file that is there now
        return self._winners(keep, columns)

    def listed(self) -> tuple[list[str], list[str]]:
        """List the fragments and the compacted files that count, whatever compactions do meanwhile."""
        # Fragments first: one that vanishes after this is in a compacted file that the second listing has. The second
        # listing is repeated until it stands still, since a disk's listing is no snapshot.
        while True:
            log = self._files.find(layout.LOG)
            base = self._files.find(layout.BASE)
            if not base or list(self._files.find(layout.BASE)) == list(base):
                break
        absorbed = frozenset().union(*(self.absorbed(path) for path in base if _is_fragment(path)))
        return (
            [path for path in log if _is_fragment(path) and path not in absorbed],
            [path for path in base if _is_fragment(path) and path not in absorbed],
        )

    def absorbed(self, path: str) -> frozenset[str]:
        """Tell which files a compacted file stands for."""
        absorbed = self._absorbed.get(path)
        if absorbed is None:
            source, filesystem = self._files.arrow_source(path)
            with damage_told(path):
                metadata = pq.read_schema(source, filesystem=filesystem).metadata or {}
            absorbed = self._absorbed[path] = frozenset(json.loads(metadata.get(ABSORBED, b"[]")))
        return absorbed

    def tables(self, paths: Iterable[str]) -> list[pa.Table]:
        """Parse whole manifest files, each only once."""
        paths = list(paths)
        # A copy: another thread may forget what it no longer sees while we still need it.
        parsed = {path: table for path in paths if (table := self._tables.get(path)) is not None}
        missing = [path for path in paths if path not in parsed]
        for path, content in self._files.read_many(missing).items():
            if content is None:
                raise FileNotFoundError(path)
            with damage_told(path):
                table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
                parsed[path] = self._tables[path] = schema.conformed(table)
        return [parsed[path] for path in paths]

    def forget(self, listed: Iterable[str]) -> None:
        """Drop what was parsed and is listed no more."""
        keep = set(listed)
        self._tables = {path: table for path, table in list(self._tables.items()) if path in keep}

    def _winners(self, keep: Filter | None, columns: list[str]) -> pa.Table:
        log, bases = self.listed()
        self.forget([*log, *bases])
        # All but the largest compacted file are small or short-lived; they are laid over it in memory.
        sizes = {path: self._files.size(path) or 0 for path in bases} if len(bases) > 1 else {}
        bases = sorted(bases, key=lambda path: sizes.get(path, 0))
        main = Compacted(self._files, bases[-1]) if bases else None
        rows = pa.concat_tables([schema.SCHEMA.empty_table(), *self.tables([*bases[:-1], *log])])
        overlay = latest(rows)
        if main is None:
            return _shown(overlay, keep, columns)
        if overlay.num_rows == 0:
            return main.read(keep, columns)
        below = main.read(pc.field("key").isin(overlay["key"].combine_chunks()), list(RANKED))
        beaten = won_by_second(reduced(rows).select(RANKED), below.select(RANKED))
        overlay = overlay.filter(pc.invert(pc.is_in(overlay["key"], beaten)))
        below = main.read(keep, [*dict.fromkeys([*columns, "key"])])
        below = below.filter(pc.invert(pc.is_in(below["key"], overlay["key"].combine_chunks())))
        return pa.concat_tables([below.select(columns), _shown(overlay, keep, columns)])


def _shown(table: pa.Table, keep: Filter | None, columns: list[str]) -> pa.Table:
    return (table if keep is None else table.filter(keep)).select(columns)


def _is_fragment(path: str) -> bool:
    return path.endswith(".parquet") and not layout.is_temporary(path.rsplit("/", 1)[-1])
