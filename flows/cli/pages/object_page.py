"""What is known of one prior or variant, as a page that people read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_store.objects.commit import Commit


def object_page(commit: Commit, uris: Mapping[str, str]) -> str:
    """One line a matter, files last; what the object does not say is left out."""
    lines = [(name, text) for name, text in _matters(commit) if text]
    files = [(f"{info.bytes / 1024:,.1f} KiB", name) for name, info in commit.files.items()]
    wide = max((len(size) for size, _ in files), default=0)
    lines += [("files" if not number else "", f"{size:>{wide}}  {name}") for number, (size, name) in enumerate(files)]
    lines += [("place", next(iter(uris.values())).rpartition("/")[0])] if uris else []
    return "".join(f"{name:10}{text}\n" for name, text in lines)


def _matters(commit: Commit) -> Iterator[tuple[str, str]]:
    row: Mapping[str, Any] = commit.row
    pins, extra = commit.pins, _plain(row.get("extra"))
    kind = commit.kind.removesuffix("s")
    yield kind, commit.key
    yield "made", _joined(f"{commit.created_at[:16].replace('T', ' ')} UTC", _named("batch", row.get("batch")))
    yield "row", row.get("row_id") or ""
    yield "prompt", row.get("prompt") or ""
    yield "negative", row.get("negative_prompt") or ""
    yield "identity", _joined(row.get("identity"), _named("seed", row.get("seed")), _size(row), _own_prompt(pins, row))
    yield (
        "model",
        _joined(row.get("model"), _named("content", (row.get("model_fingerprint") or "")[:12]), row.get("dtype")),
    )
    steps = row.get("steps_full")
    yield "schedule", _joined(row.get("scheduler"), _named("grid", row.get("grid")), steps and f"{steps} steps")
    yield "guidance", "" if extra.get("guidance") is None else f"{extra['guidance']:g}"
    yield "start", _start(row, extra)
    yield "steps", f"{row['steps_run']} run" + _tail(extra) if row.get("steps_run") is not None else ""
    yield "tags", ", ".join(row.get("tags") or ())
    yield "device", row.get("device") or ""
    yield "seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in commit.timings.items())
    yield "versions", ", ".join(f"{name} {version}" for name, version in commit.versions.items())


def _size(row: Mapping[str, Any]) -> str:
    if not row.get("width"):
        return ""
    return f"{row['width']}x{row['height']}, {row.get('frames')} frames at {row.get('fps') or 0:g} a second"


def _own_prompt(pins: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    own = pins.get("identity.prompt")
    return f"base prompt {own!r}" if own and own != row.get("prompt") else ""


def _start(row: Mapping[str, Any], extra: Mapping[str, Any]) -> str:
    if row.get("start_step") is None:
        return ""
    sigma = "" if row.get("sigma") is None else f", where sigma is {row['sigma']:.3f}"
    where = "on the straight line, after" if extra.get("start") == "line" else "from the snapshot after"
    return f"{where} step {row['start_step']} of {row.get('parent_key') or 'its parent'}{sigma}"


def _tail(extra: Mapping[str, Any]) -> str:
    tail = extra.get("tail")
    return "" if tail is None else ", the rest of the prior's schedule" if tail == "exact" else ", re-spaced"


def _named(name: str, value: Any) -> str:
    return "" if value in {None, ""} else f"{name} {value}"


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _plain(extra: Any) -> Mapping[str, Any]:
    found = json.loads(extra) if isinstance(extra, str) else extra
    return found if isinstance(found, dict) else {}
