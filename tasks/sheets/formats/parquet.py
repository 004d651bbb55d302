"""Parquet: one row a row. A small file can hold a very large table, so it is measured before it is read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import SheetError
from tasks.sheets.formats.parquet_pages import Page, pages_of
from tasks.sheets.raw import MAX_COLUMNS, RawRow, column_names, cut, shown

# How large a table may be as it is kept, with words that are repeated kept once: this, or so much for each byte of the file.
_MAX_UNPACKED = 16 * 2**20
_MAX_PACKING = 20
_EACH_PAGE = 100
# Values in the lists of one column, for each row that a sheet may have.
_MAX_VALUES_A_ROW = 10


def parquet_rows(data: bytes, name: str, max_rows: int) -> Iterator[RawRow]:
    """The rows, numbered from 1."""
    try:
        file = _measured(data, name, max_rows)
        columns = column_names(file.schema_arrow.names, name)
        number = 0
        # Group by group: lists of words that are kept once are not put together across groups.
        groups = range(file.num_row_groups)
        for batch in chain.from_iterable(file.iter_batches(2**16, [group], use_threads=False) for group in groups):
            read = [
                _readable(column, f"{name}, column {shown(title)}")
                for column, title in zip(batch.columns, columns, strict=True)
            ]
            for cells in zip(*read, strict=True):
                number += 1
                yield RawRow(f"{name}:row {number}", dict(zip(columns, cells, strict=True)))
    except SheetError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if "implemented" in str(error):
            raise SheetError(
                f"{name}: is a kind of Parquet that is not read here ({cut(error)}); save it with plain or dictionary encoding"
            ) from None
        raise SheetError(f"{name}: not a Parquet file ({cut(error)})") from None


def _measured(data: bytes, name: str, max_rows: int) -> pq.ParquetFile:
    """The file, where it is of a bearable size; words are read once, however often a column repeats them."""
    source = pa.BufferReader(data)
    whole = pq.ParquetFile(source).metadata
    if whole.num_columns > MAX_COLUMNS:
        raise SheetError(f"{name}: {whole.num_columns} columns; a sheet may have at most {MAX_COLUMNS}")
    size, most = 0, max(_MAX_UNPACKED, _MAX_PACKING * len(data))
    for index in range(whole.num_columns):
        column, values = whole.schema.column(index), 0
        for page in _pages(data, whole, index):
            values += page.values
            size += _EACH_PAGE + page.unpacked
            if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
                # Only words of any length are read once.
                size += page.values * column.length
            if size > most:
                raise SheetError(
                    f"{name}: holds more than {most >> 20} MiB in a file of {len(data) / 2**20:.2f} MiB, which is too much; save it anew, or split it"
                )
        if column.max_repetition_level and values > _MAX_VALUES_A_ROW * max_rows:
            raise SheetError(
                f"{name}, column {shown(column.path.partition('.')[0])}: its lists hold {values} values; "
                f"at most {_MAX_VALUES_A_ROW} for each of sheet.max_rows={max_rows} rows are allowed"
            )
    words = [
        whole.schema.column(index).path
        for index in range(whole.num_columns)
        if whole.schema.column(index).physical_type == "BYTE_ARRAY"
        and whole.schema.column(index).logical_type.type != "DECIMAL"
    ]
    return pq.ParquetFile(source, read_dictionary=words)


def _pages(data: bytes, whole: pq.FileMetaData, index: int) -> Iterator[Page]:
    """All pages of one column."""
    for group in range(whole.num_row_groups):
        chunk = whole.row_group(group).column(index)
        first = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < first:
            first = chunk.dictionary_page_offset
        if first < 0:
            raise ValueError(f"a column begins at byte {first}")
        yield from pages_of(data, first, chunk.total_compressed_size)


def _readable(column: pa.Array, place: str) -> list[Any]:
    try:
        return _cells(column)
    except (pa.ArrowException, LookupError, ValueError, OverflowError) as error:
        # A day that no calendar has, a time zone that is none, text that is not UTF-8.
        raise SheetError(
            f"{place}: holds what cannot be read as {cut(column.type)} ({cut(error)}); save the column as text"
        ) from None


def _cells(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        words = column.dictionary.to_pylist()
        return [None if index is None else words[index] for index in column.indices.to_pylist()]
    if not pa.types.is_nested(kind):
        found: list[Any] = column.to_pylist()
        return found
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or pa.types.is_nested(kind.value_type):
        # Whatever is in it, no column of a sheet takes it; a column that is ignored does not care.
        return [{}] * len(column)
    values = iter(_cells(column.flatten()))
    return [None if length is None else list(islice(values, length)) for length in column.value_lengths().to_pylist()]
