"""Reads a prompt sheet, of any kind, from anywhere, into rows of raw cells that know where they stand.

A sheet is untrusted: it is measured before it is unpacked, YAML is read without object tags, and no cell is interpreted.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

from tasks.errors import SheetError
from tasks.sheets.formats.delimited import delimited_rows
from tasks.sheets.formats.json_lines import json_rows
from tasks.sheets.raw import SheetFile

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
DEMO_SHEET = Path(__file__).resolve().parents[3] / "demo" / "sheets" / "demo.csv"


def read_sheet_file(source: str, kind: str, max_rows: int) -> SheetFile:
    """Take the sheet at `source` (path, fsspec URL, `-`, `demo`) apart: one row more than `max_rows` at most."""
    path = str(DEMO_SHEET) if source == "demo" else source
    name = "standard input" if source == "-" else path.rstrip("/").rpartition("/")[2]
    kind = _kind(path, kind)
    data = _fetch(path)
    root = "." if source == "-" else path.rpartition("/")[0] or "."
    if kind == "yaml":
        from tasks.sheets.formats.yaml_sections import yaml_file

        return yaml_file(_decoded(data, name), name, root, max_rows)
    if kind == "parquet":
        from tasks.sheets.formats.parquet import parquet_rows

        rows = parquet_rows(data, name, max_rows)
    elif kind == "jsonl":
        rows = json_rows(_decoded(data, name), name)
    else:
        rows = delimited_rows(_decoded(data, name), name, "\t" if kind == "tsv" else ",")
    return SheetFile(name=name, root=root, rows=tuple(itertools.islice(rows, max_rows + 1)))


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
    if "://" in path and "::" in path:
        raise SheetError(f"sheet {path!r} joins file systems with '::', which is not read; give the sheet itself")
    try:
        with _opened(path) as file:
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


def _opened(path: str) -> Any:
    if "://" not in path:
        return Path(path).expanduser().open("rb")
    import fsspec

    return fsspec.open(path, "rb")


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
