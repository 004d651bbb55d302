"""The columns of the manifest, with what each one says; the one place where they are named."""

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from prior_store.errors import RowError
from prior_store.layout import KINDS

MANIFEST_VERSION: Final = 1
"""Part of every manifest file's metadata. New columns do not raise it: readers fill what is missing with null."""

VERSION_ENTRY: Final = b"headstart.manifest"

DONE: Final = "done"
FAILED: Final = "failed"
REMOVED: Final = "removed"
"""done: its files are committed. removed: they were, and have been cleaned up since. All else is a row without files."""

TIME: Final = pa.timestamp("us", tz="UTC")

COLUMNS: Final[tuple[tuple[str, pa.DataType, str], ...]] = (
    ("kind", pa.string(), "priors or variants: the folder that the object lies in"),
    ("key", pa.string(), "digest of the recipe, 64 hex digits; a reader of the manifest sees each key once"),
    ("parent_key", pa.string(), "key of the prior that a variant starts from"),
    ("identity", pa.string(), "what stays fixed, as the sheet or its digest names it"),
    ("batch", pa.string(), "the launch that made the row"),
    ("row_id", pa.string(), "the row's name in its sheet"),
    ("status", pa.string(), "done, failed, removed, or another word for a row without files"),
    ("error", pa.string(), "what went wrong, for rows that failed"),
    ("attempts", pa.int32(), "how often the row was tried"),
    ("prompt", pa.string(), "the prompt as it was given"),
    ("negative_prompt", pa.string(), "the negative prompt as it was given"),
    ("seed", pa.int64(), "seed of the noise"),
    ("start_step", pa.int32(), "k: the variant starts from the snapshot after step k of its prior"),
    ("sigma", pa.float64(), "noise level at which it resumed; k alone does not carry over between schedules"),
    ("steps_run", pa.int32(), "denoising steps that were really run"),
    ("steps_full", pa.int32(), "denoising steps of a full run of the same schedule"),
    ("model", pa.string(), "the model as it was named"),
    ("model_fingerprint", pa.string(), "digest of the model's content"),
    ("scheduler", pa.string(), "class of the scheduler"),
    ("grid", pa.string(), "how the steps are laid: wan, diffusers or explicit"),
    ("width", pa.int32(), "pixels"),
    ("height", pa.int32(), "pixels"),
    ("frames", pa.int32(), "number of video frames"),
    ("fps", pa.float64(), "frames a second"),
    ("dtype", pa.string(), "precision of the computation"),
    ("latents_uri", pa.string(), "final latents, relative to the root of the store"),
    ("video_uri", pa.string(), "video, relative to the root of the store"),
    ("preview_uri", pa.string(), "first picture, relative to the root of the store"),
    ("bytes", pa.int64(), "sizes of all files of the object together"),
    ("sha256", pa.string(), "digest of the object's file table as `sha256sum` prints it, sorted by name"),
    ("load_s", pa.float64(), "seconds spent loading the model"),
    ("encode_s", pa.float64(), "seconds spent encoding text and pictures"),
    ("denoise_s", pa.float64(), "seconds spent denoising"),
    ("decode_s", pa.float64(), "seconds spent decoding latents"),
    ("write_s", pa.float64(), "seconds spent writing files"),
    ("device", pa.string(), "what it was computed on"),
    ("versions", pa.string(), "versions of what computed it, JSON"),
    ("tags", pa.list_(pa.string()), "labels of the user"),
    ("extra", pa.string(), "anything else worth keeping, JSON"),
    ("created_at", TIME, "when the object was committed, UTC"),
    ("recorded_at", TIME, "when this row was written, UTC; the latest row of a key counts"),
)

SCHEMA: Final = pa.schema(
    [pa.field(name, kind, metadata={"description": text}) for name, kind, text in COLUMNS],
    metadata={VERSION_ENTRY: str(MANIFEST_VERSION)},
)
NAMES: Final = frozenset(SCHEMA.names)
_NEVER: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MOMENT: Final = dt.timedelta(microseconds=1)
_JSON: Final = frozenset({"grid", "versions", "extra"})
_TIMES: Final = frozenset({"created_at", "recorded_at"})


def utc_now() -> dt.datetime:
    """Tell the time that rows carry."""
    return dt.datetime.now(dt.UTC)


def table_of(rows: Iterable[Mapping[str, Any]], newest: Mapping[str, dt.datetime] | None = None) -> pa.Table:
    """Make rows a typed table, or say which column of which row is wrong. A row counts from after the `newest` of its key."""
    now, newest = utc_now(), newest or {}
    ready = [_checked(row, max(now, newest.get(row.get("key") or "", _NEVER) + _MOMENT)) for row in rows]
    try:
        return pa.Table.from_pylist(ready, schema=SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError):
        for row in ready:
            for name, value in row.items():
                try:
                    pa.array([value], SCHEMA.field(name).type)
                except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError) as error:
                    raise RowError(
                        f"manifest row {row['key'][:12]!r} has {name}={value!r}; the column holds "
                        f"{SCHEMA.field(name).type} ({error})"
                    ) from error
        raise


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Give the rows as dictionaries, column by column, which is several times quicker than row by row."""
    names = table.column_names
    for values in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        yield dict(zip(names, values, strict=True))


def conformed(table: pa.Table) -> pa.Table:
    """Give a table of any release the columns of this one: what it does not have is null, what we do not know goes."""
    if table.schema.equals(SCHEMA):
        return table.replace_schema_metadata(SCHEMA.metadata)
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give a row as JSON values, as a commit record keeps it; nulls are left out."""
    return {
        name: value.isoformat() if isinstance(value, dt.datetime) else value
        for name, value in row.items()
        if value is not None
    }


def _checked(row: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    unknown = sorted(set(row) - NAMES)
    if unknown:
        raise RowError(f"manifest row has unknown columns {unknown}; the manifest has {sorted(NAMES)}")
    missing = [name for name in ("kind", "key", "status") if not row.get(name)]
    if missing:
        raise RowError(f"manifest row {dict(row)!r} lacks {missing}; every row needs kind, key and status")
    if row["kind"] not in KINDS:
        raise RowError(f"manifest row has kind={row['kind']!r}; choose one of {sorted(KINDS)}")
    ready = {name: _value(name, value) for name, value in row.items()}
    ready["recorded_at"] = ready.get("recorded_at") or now
    return ready


def _value(name: str, value: Any) -> Any:
    if name in _JSON and value is not None and not isinstance(value, str):
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if name in _TIMES and isinstance(value, str):
        return dt.datetime.fromisoformat(value)
    if name == "tags" and isinstance(value, tuple):
        return list(value)
    return value
