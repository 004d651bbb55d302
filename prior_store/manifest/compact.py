"""Many small manifest files into one: a union that only grows, so a kill anywhere leaves doubles and never gaps.

The new file is written and read back before anything is taken away, and it names what it stands for; readers skip those
at once. The replaced files go after a grace time, for readers that are in the middle of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import DamagedError
from prior_store.manifest.index import Manifest
from prior_store.manifest.parquet import compacted_bytes, newest_us
from prior_store.manifest.ranking import reduced
from prior_store.manifest.schema import SCHEMA

GRACE_S: Final = 3600.0
WORTH_IT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """What a compaction did."""

    rows: int
    absorbed: tuple[str, ...]
    written: str | None
    removed: tuple[str, ...]


def compact(
    files: Files, *, grace_s: float = GRACE_S, clock: Callable[[], float] | None = None, worth_it: int = WORTH_IT
) -> Compaction:
    """Join the manifest files that count, then remove those that were joined longer than the grace time ago."""
    manifest = Manifest(files)
    rows, absorbed, written = 0, list[str](), None
    for _ in range(5):
        try:
            log, base = manifest.listed()
            absorbed = [*log, *base]
            if len(absorbed) >= worth_it:
                table = reduced(pa.concat_tables([SCHEMA.empty_table(), *manifest.tables(absorbed)]))
                rows, written = table.num_rows, _write(files, table, absorbed)
            break
        except FileNotFoundError:
            continue  # another compaction was quicker; look again
    return Compaction(
        rows=rows,
        absorbed=tuple(absorbed) if written else (),
        written=written,
        removed=_remove_absorbed(files, grace_s, clock or files.now),
    )


def _write(files: Files, table: pa.Table, absorbed: list[str]) -> str:
    path = layout.fragment_path(layout.BASE, lambda: max(time.time_ns(), 1000 * newest_us(table)))
    files.put(path, compacted_bytes(table, absorbed))
    source, filesystem = files.arrow_source(path)
    found = pq.read_metadata(source, filesystem=filesystem).num_rows
    if found != table.num_rows:
        raise DamagedError(f"{path} was written with {table.num_rows} rows and reads {found}; nothing was removed")
    return path


def _remove_absorbed(files: Files, grace_s: float, clock: Callable[[], float]) -> tuple[str, ...]:
    manifest = Manifest(files)
    listed = {**files.find(layout.LOG), **files.find(layout.BASE)}
    removed: list[str] = []
    bases = sorted(path for path in listed if path.startswith(layout.BASE) and path.endswith(".parquet"))
    now = clock() if bases else 0.0
    # Old compacted files go last: as long as one is there, what it stands for is not read again.
    for base in bases:
        if now - listed[base].modified < grace_s:
            continue
        try:
            gone = manifest.absorbed(base)
        except FileNotFoundError:
            continue
        removed += [path for path in gone if path in listed]
    removed = sorted(set(removed), key=lambda path: (path.startswith(layout.BASE), path))
    files.remove_many(path for path in removed if path.startswith(layout.LOG))
    files.remove_many(path for path in removed if path.startswith(layout.BASE))
    return tuple(removed)
