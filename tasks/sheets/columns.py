"""The columns of a sheet: what each means, and how a cell becomes a value or a problem."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from prior_engine.errors import RequestError
from prior_engine.requests.steps import Tail, parse_tail
from tasks.settings import MAX_SEED
from tasks.settings.loras import split_loras
from tasks.sheets.raw import shown

_NAME = re.compile(r"[^\s/\\\x00-\x1f\x7f](?:[^/\\\x00-\x1f\x7f]{0,98}[^\s/\\\x00-\x1f\x7f])?")
MAX_NAME = 100
MAX_TEXT = 20_000
# Tags of a row, or LoRA files.
MAX_PARTS = 100


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"is {shown(value)}; text is needed")  # noqa: TRY004  a user's mistake, told with all the others
    if len(value) > MAX_TEXT:
        raise ValueError(f"is {len(value)} characters long; at most {MAX_TEXT} are allowed")
    return value.strip()


def _name(value: Any) -> str:
    text = str(value).strip()
    if not _NAME.fullmatch(text) or text in {".", ".."}:
        raise ValueError(
            f"is {text[:80]!r}; a name may have at most 100 characters, and no slash, backslash or control character"
        )
    return text


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        try:
            number = int(value)
            if number != value and not isinstance(value, str):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"is {shown(value)}; a whole number is needed") from None
        if isinstance(value, bool) or not low <= number <= high:
            raise ValueError(f"is {shown(value)}; a whole number from {low} to {high} is needed")
        return number

    return parse


def _number(value: Any) -> float:
    try:
        # The decimal comma is what a spreadsheet writes where its separator is a semicolon.
        number = float(value.replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"is {shown(value)}; a number is needed") from None
    if isinstance(value, bool) or not math.isfinite(number) or not 0 <= number <= 100:
        raise ValueError(f"is {shown(value)}; a number from 0 to 100 is needed")
    return number


def _tail(value: Any) -> Tail | Literal["auto"]:
    try:
        return "auto" if isinstance(value, str) and value.strip().lower() == "auto" else parse_tail(value)
    except RequestError:
        raise ValueError(f"is {shown(value)}; 'exact' or a number of steps from 1 is needed") from None


def _start_step(value: Any) -> str | int:
    if isinstance(value, str) and value.strip().lower() == "auto":
        return "auto"
    try:
        return _whole(0, 998)(value)
    except ValueError:
        raise ValueError(f"is {shown(value)}; 'auto' or a step from 0 is needed") from None


def _start(value: Any) -> str:
    if isinstance(value, str) and value.strip().lower() in {"auto", "snapshot", "line"}:
        return value.strip().lower()
    raise ValueError(f"is {shown(value)}; 'snapshot', 'line' or 'auto' is needed")


def _use(value: Any) -> str:
    word = {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value
    if isinstance(word, str) and word.strip().lower() in {"on", "off", "auto"}:
        return word.strip().lower()
    raise ValueError(f"is {shown(value)}; 'on', 'off' or 'auto' is needed")


def _seeds(value: Any) -> range:
    """One seed, or a range such as 1..4 (both ends included): a range stays one until its rows are made."""
    whole = _whole(0, MAX_SEED)
    if isinstance(value, str) and ".." in value:
        first_text, _, last_text = value.partition("..")
        try:
            first, last = whole(first_text.strip()), whole(last_text.strip())
        except ValueError:
            raise ValueError(f"is {shown(value)}; a seed or a range such as 1..4 is needed") from None
        if not first <= last < first + 100_000:
            raise ValueError(f"is {shown(value)}; a range must go upwards and hold at most 100000 seeds")
        return range(first, last + 1)
    seed = whole(value)
    return range(seed, seed + 1)


def _words(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else re.split(r"[;,|]", _text(str(value)))
    found = tuple(dict.fromkeys(text for text in (_text(str(part)) for part in parts) if text))
    return _few(found)


def _few(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(parts) > MAX_PARTS:
        raise ValueError(f"holds {len(parts)} values; at most {MAX_PARTS} are allowed")
    return parts


def _paths(value: Any) -> tuple[str, ...] | None:
    """Several with `;`, in their order."""
    parts = value if isinstance(value, list | tuple) else _text(str(value)).split(";")
    return _few(tuple(text for part in parts if (text := _text(str(part))))) or None


def _loras(value: Any) -> tuple[tuple[str, float], ...]:
    """`path` or `path:weight`, several with `;`."""
    parts = value if isinstance(value, list | tuple) else _text(str(value)).split(";")
    return _few(tuple(found for part in parts for found in split_loras(_text(str(part)))))


@dataclass(frozen=True, slots=True)
class Column:
    """One column: where its value belongs, what it means, how it is read."""

    parse: Callable[[Any], Any]
    meaning: str
    of_identity: bool = False


COLUMNS: dict[str, Column] = {
    "identity": Column(_name, "who or what stays fixed; rows with the same identity share a prior (required)"),
    "prompt": Column(_text, "what this variant shows; may hold {templates} (required)"),
    "id": Column(_name, "name of the row, unique in the sheet; made from the prompt if missing"),
    "image": Column(
        _text, "picture of the identity, for image-to-video models: path or URL; one per identity", of_identity=True
    ),
    "last_image": Column(_text, "last frame, for first-last-frame models: path or URL", of_identity=True),
    "video": Column(
        _text,
        "video of the identity, for video to video and VACE: an mp4, mov, webm or gif, or a folder or pattern of pictures in the order of their names; the first frames are taken, in the row's size",
        of_identity=True,
    ),
    "mask": Column(
        _text,
        "what of the video is made anew, for VACE: white is, black stays; like `video`, or one picture for all frames",
        of_identity=True,
    ),
    "references": Column(
        _paths, "pictures of what the video is to show, for VACE: paths or URLs, separated by ;", of_identity=True
    ),
    "control_scale": Column(
        _number, "how far VACE follows its video and references; 1 if missing, 0 = not at all", of_identity=True
    ),
    "base_prompt": Column(_text, "prompt of the prior; if missing, the identity's first prompt", of_identity=True),
    "negative_prompt": Column(_text, "what the variant should not show"),
    "seed": Column(_seeds, "seed of the prior's noise; a range such as 1..4 makes one row per seed", of_identity=True),
    "start_step": Column(_start_step, "the step after which the row starts, counted from 0, or auto"),
    "start": Column(
        _start,
        "snapshot = the prior's own state after that step; line = the point with the same sigma between its last latents and its first noise; or auto",
    ),
    "tail": Column(_tail, "exact, or the number of re-spaced steps"),
    "guidance": Column(_number, "guidance scale of the variant"),
    "prior": Column(
        _use,
        "on = start from a prior; off = full runs, without one; auto = full runs if they take fewer steps",
        of_identity=True,
    ),
    "width": Column(_whole(16, 8192), "pixels", of_identity=True),
    "height": Column(_whole(16, 8192), "pixels", of_identity=True),
    "frames": Column(_whole(1, 4096), "number of frames", of_identity=True),
    "lora": Column(_loras, "LoRA file with an optional weight, path:0.8; separate several by ;"),
    "tags": Column(_words, "labels, separated by comma or ;"),
    "parent": Column(_name, "id of another row: start from that variant instead of the prior"),
    "repeat": Column(_whole(1, 100_000), "make this many rows, each with the next seed"),
}


def refused(cell: Any) -> str | None:
    """What is wrong with a cell, whatever its column; only JSON, YAML and Parquet can hold such a one."""
    if isinstance(cell, str) and cell.isascii():
        return None
    for part in cell if isinstance(cell, list | tuple) else (cell,):
        if isinstance(part, list | tuple | set | dict):
            return f"holds a {type(part).__name__}; a plain value or a list of plain values is needed"
        if isinstance(part, str) and not part.isascii():
            try:
                part.encode()
            except UnicodeEncodeError as error:
                return f"holds {part[error.start]!r}, half of a character; write the whole one"
    return None


def is_empty(value: Any) -> bool:
    """No value: nothing, blanks only, or Parquet's NaN."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a name that nobody knows; none where so many are known that the search would take long."""
    if len(name) > MAX_NAME or len(known) > 1000:
        return ""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.65)
    return f" (did you mean {near[0]!r}?)" if near else ""


@lru_cache
def nearest_column(name: str) -> str:
    """A hint for a column that nobody knows."""
    return nearest(name, tuple(COLUMNS))
