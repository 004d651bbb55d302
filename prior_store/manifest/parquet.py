"""Manifest files as Parquet: small ones written plainly, large ones so that a reader can skip most of them."""

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from prior_store.backends.files import Files
from prior_store.errors import DamagedError
from prior_store.manifest import schema

ABSORBED: Final = b"headstart.absorbed"
"""Metadata of a compacted file: the manifest files whose rows it holds; readers skip those."""

ROW_GROUP: Final = 16_384
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

Filter = Any  # a pyarrow.dataset.Expression, which has no type information


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
        with damage_told(self._path):
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


def parsed_fragment(path: str, content: bytes) -> pa.Table:
    """Read a whole small manifest file."""
    with damage_told(path):
        return schema.conformed(pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False))


def facts_of(metadata: Any) -> tuple[frozenset[str], int]:
    """Which files a compacted file stands for, and the microseconds of its newest row."""
    absorbed = frozenset(json.loads((metadata.metadata or {}).get(ABSORBED, b"[]")))
    newest = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in (group.column(at) for at in range(group.num_columns)):
            if column.path_in_schema == "recorded_at" and column.is_stats_set and column.statistics.has_min_max:
                newest = max(newest, microseconds(column.statistics.max))
    return absorbed, newest


def newest_us(table: pa.Table) -> int:
    """Give the microseconds of the newest row."""
    newest = pc.max(table["recorded_at"]).as_py()
    return 0 if newest is None else microseconds(newest)


def microseconds(moment: dt.datetime) -> int:
    """Count from 1970, exactly."""
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


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


class damage_told:  # noqa: N801 - reads as a sentence where it is used
    """Say which manifest file cannot be read, and what to do."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, pa.ArrowInvalid) or (
            isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
        ):
            raise DamagedError(
                f"manifest file {self._path} cannot be read ({error}); run `headstart store repair`: that puts it into quarantine and "
                "rebuilds its rows from the commit records"
            ) from error
