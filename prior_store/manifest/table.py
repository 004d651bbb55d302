"""The list of everything: small immutable Parquet files, one for each commit or chunk, and their compacted union.

A reader sees exactly one row per key: the latest, where a finished row stands above one without files (a failure that
another machine's clock dates later never hides a finished video) until a removal buries it. The manifest is an index;
the truth is in the commit records, and `repair` can rebuild the rows from them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import DamagedError
from prior_store.manifest import schema

ABSORBED: Final = b"headstart.absorbed"
"""Metadata of a compacted file: the manifest files whose rows it holds; readers skip those."""

ROW_GROUP: Final = 16_384
_RANKED: Final = ("key", "status", "recorded_at")
_STANDING: Final = 2**62
_VANISHED: Final = 5

Filter = Any  # a pyarrow.dataset.Expression, which has no type information


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
            with _damage_told(path):
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
            with _damage_told(path):
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
        below = main.read(pc.field("key").isin(overlay["key"].combine_chunks()), list(_RANKED))
        beaten = _won_by_second(reduced(rows).select(_RANKED), below.select(_RANKED))
        overlay = overlay.filter(pc.invert(pc.is_in(overlay["key"], beaten)))
        below = main.read(keep, [*dict.fromkeys([*columns, "key"])])
        below = below.filter(pc.invert(pc.is_in(below["key"], overlay["key"].combine_chunks())))
        return pa.concat_tables([below.select(columns), _shown(overlay, keep, columns)])


class Compacted:
    """One compacted file, read in parts: only the row groups that hold an answer, only the columns asked for."""

    def __init__(self, files: Files, path: str) -> None:
        self._path = path
        self._source, self._filesystem = files.arrow_source(path)
        self._format = ds.ParquetFileFormat(
            default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True)
        )

    def read(self, keep: Filter | None, columns: list[str]) -> pa.Table:
        """Give the rows that `keep` holds for; each key is in here once."""
        with _damage_told(self._path):
            whole = self._format.make_fragment(self._source, self._filesystem)
            if keep is None:
                return self._dataset([whole]).to_table(columns=columns)
            # Two passes: the filter's own columns tell which row groups hold answers, only those are read in full.
            groups = whole.split_by_row_group(keep, schema=schema.SCHEMA)
            if len(groups) > 2:
                hits = self._dataset(groups).to_table(columns=["__fragment_index"], filter=keep)
                groups = [groups[i] for i in sorted(pc.unique(hits["__fragment_index"]).to_pylist())]
            return self._dataset(groups).to_table(columns=columns, filter=keep)

    def _dataset(self, fragments: list[Any]) -> Any:
        return ds.FileSystemDataset(fragments, schema.SCHEMA, self._format, self._filesystem)


def fragment_bytes(table: pa.Table) -> bytes:
    """Write a small manifest file as plainly as Parquet can be: its cost is per column, not per byte."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="none", use_dictionary=False, write_statistics=False)
    return bytes(sink.getvalue())


def compacted_bytes(table: pa.Table, absorbed: Iterable[str]) -> bytes:
    """Write a large manifest file in the order and with the statistics that let readers skip most of it."""
    order = [("batch", "ascending"), ("identity", "ascending"), ("key", "ascending")]
    table = table.sort_by(order).replace_schema_metadata(
        {**(table.schema.metadata or {}), ABSORBED: json.dumps(sorted(absorbed))}
    )
    sink = pa.BufferOutputStream()
    distinct = {
        "key",
        "row_id",
        "prompt",
        "sha256",
        "latents_uri",
        "video_uri",
        "preview_uri",
        "created_at",
        "recorded_at",
    }
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP,
        use_dictionary=[name for name in table.column_names if name not in distinct],
        write_statistics=True,
        write_page_index=True,
    )
    return bytes(sink.getvalue())


def latest(table: pa.Table) -> pa.Table:
    """Keep the row of each key that counts most."""
    table = _unburied(table)
    if table.num_rows < 2:
        return table
    # A finished row stands above all others that are not buried by a later removal; then the later one counts.
    done = pc.equal(table["status"], schema.DONE).cast(pa.int64())
    rank = pc.add(pc.fill_null(table["recorded_at"].cast(pa.int64()), 0), pc.multiply(done, _STANDING))
    ordering = pa.table({"key": table["key"], "rank": rank})
    order = pc.sort_indices(ordering, sort_keys=[("key", "ascending"), ("rank", "descending")])
    keys = ordering["key"].combine_chunks().take(order)
    first = pa.concat_arrays([pa.array([True]), pc.not_equal(keys[1:], keys[:-1])])
    return table.take(order.filter(first))


def reduced(table: pa.Table) -> pa.Table:
    """Drop the rows that can never count again: keep the latest of each key, and the removal that it follows."""
    winners = latest(table)
    buried = winners.filter(pc.invert(pc.is_in(winners["status"], pa.array([schema.DONE, schema.REMOVED]))))["key"]
    removals = table.filter(pc.equal(table["status"], schema.REMOVED))
    return pa.concat_tables([winners, latest(removals.filter(pc.is_in(removals["key"], buried.combine_chunks())))])


def _unburied(table: pa.Table) -> pa.Table:
    """Leave out the rows of an object that were written before it was removed."""
    removals = table.filter(pc.equal(table["status"], schema.REMOVED))
    if removals.num_rows == 0:
        return table
    last = removals.group_by("key").aggregate([("recorded_at", "max")])
    at = pc.index_in(table["key"], last["key"].combine_chunks())
    removed_at = last["recorded_at_max"].take(at)
    return table.filter(pc.fill_null(pc.greater_equal(table["recorded_at"], removed_at), fill_value=True))


def _won_by_second(first: pa.Table, second: pa.Table) -> pa.Array:
    """Name the keys whose row in the second table counts more than that in the first."""
    both = pa.concat_tables(
        table.append_column("second", pa.array([mark] * table.num_rows, pa.bool_()))
        for table, mark in ((first, False), (second, True))
    )
    winners = latest(both)
    return winners.filter(winners["second"])["key"].combine_chunks()


def _shown(table: pa.Table, keep: Filter | None, columns: list[str]) -> pa.Table:
    return (table if keep is None else table.filter(keep)).select(columns)


def _is_fragment(path: str) -> bool:
    return path.endswith(".parquet") and not layout.is_temporary(path.rsplit("/", 1)[-1])


class _damage_told:  # noqa: N801 - reads as a sentence where it is used
    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, pa.ArrowInvalid) or (
            isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        ):
            raise DamagedError(
                f"manifest file {self._path} cannot be read ({error}); run `store repair`: it goes into quarantine and "
                "its rows are rebuilt from the commit records"
            ) from error


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Give the rows as dictionaries, column by column, which is several times quicker than row by row."""
    names = table.column_names
    for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))
