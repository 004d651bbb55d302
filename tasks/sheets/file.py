"""Reads a prompt sheet, of any kind, from anywhere, into rows of raw cells that know where they stand.

A sheet is untrusted: it is bounded in size, YAML is read without object tags, and nothing in here interprets a cell.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import SheetError
from tasks.sheets.separators import mixed, separator_of

MAX_BYTES = 256 * 2**20
_ZIP = b"PK\x03\x04"
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
}
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_SAVE_AS_CSV = "in Excel choose File > Save As > 'CSV UTF-8 (Comma delimited)'"
DEMO_SHEET = Path(__file__).resolve().parents[2] / "demo" / "sheets" / "demo.csv"


@dataclass(frozen=True, slots=True)
class RawRow:
    """Cells as they stand in the file, and the place to name when one of them is wrong."""

    place: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFile:
    """A file, taken apart but not understood."""

    name: str
    root: str
    rows: tuple[RawRow, ...]
    identities: Mapping[str, RawRow] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_sheet_file(source: str, kind: str = "auto") -> SheetFile:
    """Take the sheet at `source` (path, fsspec URL, `-`, `demo`) apart."""
    path = str(DEMO_SHEET) if source == "demo" else source
    name = "standard input" if source == "-" else path.rstrip("/").rpartition("/")[2]
    kind = _kind(path, kind)
    data = _fetch(path)
    root = "." if source == "-" else path.rpartition("/")[0] or "."
    if kind == "parquet":
        return SheetFile(name=name, root=root, rows=tuple(_parquet(data, name)))
    text = _decoded(data, name)
    if kind == "yaml":
        return _yaml(text, name, root)
    if kind == "jsonl":
        return SheetFile(name=name, root=root, rows=tuple(_jsonl(text, name)))
    rows = _delimited(text, name, separator_of(text, "\t" if kind == "tsv" else ","))
    return SheetFile(name=name, root=root, rows=tuple(rows))


def _kind(path: str, kind: str) -> str:
    if kind != "auto":
        return kind
    if path == "-":
        return "csv"
    ending = Path(path).suffix.lower()
    if ending in WORKBOOKS:
        raise SheetError(
            f"sheet {path!r} is a workbook, which cannot be read as it is; {_SAVE_AS_CSV} "
            f"and give that file: sheet={Path(path).with_suffix('.csv').name}"
        )
    if ending not in FORMATS:
        seen = f"ends in {ending!r}" if ending else "has no ending"
        raise SheetError(f"sheet {path!r} {seen}; it needs one of {sorted(FORMATS)}, or set sheet.format=csv")
    return FORMATS[ending]


def _fetch(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(MAX_BYTES + 1)[: MAX_BYTES + 1]
    import fsspec

    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise SheetError(
            f"there is no sheet at {path!r}; give the path of a CSV, TSV, JSONL, YAML or Parquet file: headstart run sheet=my.csv"
        ) from None
    except (OSError, ValueError, ImportError) as error:
        raise SheetError(f"sheet {path!r} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise SheetError(f"sheet {path!r} is larger than {MAX_BYTES >> 20} MiB; split it")
    return data


def _decoded(data: bytes, name: str) -> str:
    if data.startswith(_ZIP):
        raise SheetError(f"{name}: is a workbook, whatever its name says; {_SAVE_AS_CSV} and give that file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SheetError(
            f"{name}:{line}: byte {data[error.start]:#04x} is not UTF-8; save the sheet as UTF-8 ({_SAVE_AS_CSV})"
        ) from None
    if "\x00" in text:
        raise SheetError(f"{name}: holds NUL bytes; it is not a text file")
    return text


def _delimited(text: str, name: str, delimiter: str) -> Iterator[RawRow]:
    csv.field_size_limit(2**20)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(cells, f"{name}:{line}", delimiter)
                continue
            if len(cells) > len(header):
                raise SheetError(
                    f"{name}:{line}: {len(cells)} cells, the header has {len(header)} columns; quote cells that hold {delimiter!r}"
                )
            yield RawRow(f"{name}:{line}", dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise SheetError(
            f"{name}:{reader.line_num}: {error}; quote cells that hold quotes or line breaks, and double the quotes inside"
        ) from None
    if header is None:
        raise SheetError(f"{name}: is empty; it needs a header with identity,prompt and at least one row")


def _header(cells: list[str], place: str, delimiter: str) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    if problem := mixed(header, delimiter):
        raise SheetError(f"{place}: {problem}")
    doubled = sorted({column for column in header if column and header.count(column) > 1})
    if doubled:
        raise SheetError(f"{place}: columns {doubled} appear twice; keep one of each")
    return header


def _jsonl(text: str, name: str) -> Iterator[RawRow]:
    for line, row_text in enumerate(text.split("\n"), start=1):
        if not row_text.strip():
            continue
        try:
            cells = json.loads(row_text)
        except json.JSONDecodeError as error:
            raise SheetError(
                f"{name}:{line}: not JSON ({error.msg} at column {error.colno}); each line must be one object"
            ) from None
        if not isinstance(cells, dict):
            raise SheetError(
                f'{name}:{line}: is a {type(cells).__name__}; must be an object such as {{"identity": "fox", "prompt": "..."}}'
            )
        yield RawRow(f"{name}:{line}", {str(key).strip().lower(): value for key, value in cells.items()})


def _parquet(data: bytes, name: str) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise SheetError(f"{name}: not a Parquet file ({error})") from None
    for number, cells in enumerate(table.to_pylist(), start=1):
        yield RawRow(f"{name}:row {number}", {str(key).strip().lower(): value for key, value in cells.items()})


def _yaml(text: str, name: str, root: str) -> SheetFile:
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise SheetError(f"{name}: is empty; it needs a list of rows, or a mapping with rows:")
        sections = {"rows": node} if isinstance(node, yaml.SequenceNode) else _sections(loader, node, name)
        rows_node = sections.get("rows")
        if not isinstance(rows_node, yaml.SequenceNode):
            raise SheetError(f"{name}: rows: must be a list, each item a mapping with identity and prompt")
        rows = tuple(_yaml_row(loader, item, name) for item in rows_node.value)
        identities = _yaml_identities(loader, sections.get("identities"), name)
        lists = _yaml_lists(loader, sections.get("lists"), name)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise SheetError(
            f"{name}{line}: not plain YAML ({getattr(error, 'problem', None) or error}); object tags are refused"
        ) from None
    finally:
        loader.dispose()
    return SheetFile(name=name, root=root, rows=rows, identities=identities, lists=lists)


def _sections(loader: Any, node: Any, name: str) -> dict[str, Any]:
    import yaml

    if not isinstance(node, yaml.MappingNode):
        raise SheetError(f"{name}: must be a list of rows, or a mapping with rows:, identities:, lists:")
    found = {str(loader.construct_object(key)): value for key, value in node.value}
    unknown = sorted(set(found) - {"rows", "identities", "lists"})
    if unknown:
        raise SheetError(f"{name}: unknown sections {unknown}; the known ones are ['identities', 'lists', 'rows']")
    return found


def _yaml_row(loader: Any, item: Any, name: str) -> RawRow:
    place = f"{name}:{item.start_mark.line + 1}"
    cells = loader.construct_object(item, deep=True)
    if not isinstance(cells, dict):
        raise SheetError(f"{place}: is a {type(cells).__name__}; must be a mapping with identity and prompt")
    return RawRow(place, {str(key).strip().lower(): value for key, value in cells.items()})


def _yaml_identities(loader: Any, node: Any, name: str) -> dict[str, RawRow]:
    import yaml

    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise SheetError(f"{name}:{node.start_mark.line + 1}: identities: must map each name to its columns")
    return {str(loader.construct_object(key)): _yaml_row(loader, value, name) for key, value in node.value}


def _yaml_lists(loader: Any, node: Any, name: str) -> dict[str, tuple[str, ...]]:
    if node is None:
        return {}
    lists = loader.construct_object(node, deep=True)
    if not isinstance(lists, dict) or not all(isinstance(values, list) and values for values in lists.values()):
        raise SheetError(f"{name}:{node.start_mark.line + 1}: lists: must map each name to a list that is not empty")
    return {str(key): tuple(str(value) for value in values) for key, values in lists.items()}
