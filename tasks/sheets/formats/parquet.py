"""Parquet: one row a row. A small file can hold a very large table, so it is measured before it is read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import SheetError
from tasks.sheets.raw import MAX_COLUMNS, RawRow, column_names

# How large a table may be as it is kept, with words that are repeated kept once: this, or so much for each byte of the file.
_MAX_UNPACKED = 16 * 2**20
_MAX_PACKING = 20
# Values in the lists of one column, for each row that a sheet may have.
_MAX_VALUES_A_ROW = 10


def parquet_rows(data: bytes, name: str, max_rows: int) -> Iterator[RawRow]:
    """The rows, numbered from 1."""
    try:
        file = _measured(data, name, max_rows)
        columns = column_names(file.schema_arrow.names, name)
        number = 0
        for batch in file.iter_batches(2**16, use_threads=False):
            for cells in zip(*(_cells(column) for column in batch.columns), strict=True):
                number += 1
                yield RawRow(f"{name}:row {number}", dict(zip(columns, cells, strict=True)))
    except SheetError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise SheetError(f"{name}: not a Parquet file ({error})") from None


def _measured(data: bytes, name: str, max_rows: int) -> pq.ParquetFile:
    """The file, where it is of a bearable size; words are read once, however often a column repeats them."""
    source = pa.BufferReader(data)
    whole = pq.ParquetFile(source).metadata
    if whole.num_columns > MAX_COLUMNS:
        raise SheetError(f"{name}: {whole.num_columns} columns; a sheet may have at most {MAX_COLUMNS}")
    groups = [whole.row_group(index) for index in range(whole.num_row_groups)]
    size, most = 0, max(_MAX_UNPACKED, _MAX_PACKING * len(data))
    for index in range(whole.num_columns):
        chunks = [group.column(index) for group in groups]
        size += sum(chunk.total_uncompressed_size for chunk in chunks)
        values = sum(chunk.num_values for chunk in chunks)
        if whole.schema.column(index).max_repetition_level and values > _MAX_VALUES_A_ROW * max_rows:
            raise SheetError(
                f"{name}, column {whole.schema.column(index).path.partition('.')[0]}: its lists hold {values} values; "
                f"at most {_MAX_VALUES_A_ROW} for each of sheet.max_rows={max_rows} rows are allowed"
            )
    if size > most:
        raise SheetError(
            f"{name}: holds {size >> 20} MiB in a file of {len(data) / 2**20:.2f} MiB; at most {most >> 20} MiB are read of such a file"
        )
    words = [
        whole.schema.column(index).path
        for index in range(whole.num_columns)
        if whole.schema.column(index).physical_type == "BYTE_ARRAY"
        and whole.schema.column(index).logical_type.type != "DECIMAL"
    ]
    return pq.ParquetFile(source, read_dictionary=words)


def _cells(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        words = column.dictionary.to_pylist()
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    if not pa.types.is_nested(kind):
        found: list[Any] = column.to_pylist()
        return found
    if not isinstance(column, pa.ListArray | pa.LargeListArray) or pa.types.is_nested(kind.value_type):
        # Whatever is in it, no column of a sheet takes it; a column that is ignored does not care.
        return [{}] * len(column)
    values = iter(_cells(column.flatten()))
    return [
        None if length is None else list(itertools.islice(values, length))
        for length in column.value_lengths().to_pylist()
    ]
