"""What a report says: every row of a batch with what became of it, from the batch's plan and the manifest alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prior_store.errors import DamagedError

if TYPE_CHECKING:
    from prior_store import Store

FORMAT = "headstart.report/1"
# done: made by this batch. cached: made by another one. failed: tried here. missing: not there, and not tried to the end.
STATUSES = ("done", "cached", "failed", "missing")
_THERE = {"done", "cached"}


def report_document(store: Store, batch: str) -> dict[str, Any]:
    """What report.json holds, and what the page is made from."""
    plan = _plan_of(store, batch)
    keys = [row["key"] for row in plan["rows"]] + [prior["key"] for prior in plan["priors"]]
    known = store.rows_by_key(keys)
    priors = [_prior(prior, known.get(prior["key"]), batch) for prior in plan["priors"]]
    ended = {prior["key"]: prior for prior in priors}
    rows = []
    for entry in plan["rows"]:  # parents stand before their children, so what a parent met is known here
        row = _variant(entry, known.get(entry["key"]), batch, ended.get(entry["parent"]))
        ended.setdefault(row["key"], row)
        rows.append(row)
    _name_apart(priors)
    for prior in priors:
        prior["variants"] = [row for row in rows if row["prior"] == prior["key"]]
    return {
        "format": FORMAT,
        "batch": batch,
        "sheet": plan["sheet"],
        "made_at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "summary": summary(plan["full_steps"], rows, priors),
        "start_step": {
            "step": plan["start_step"],
            "from": plan["start_step_from"],
            "on_line": plan.get("start") == "line",
        },
        "full_steps": plan["full_steps"],
        "model": plan["model"],
        "identities": priors,
        "tags": sorted({tag for row in rows for tag in row["tags"]}),
        "warnings": plan.get("warnings", []),
        "config": store.read_batch_file(batch, "config.yaml").decode(),
    }


def summary(full_steps: int, rows: Sequence[Mapping[str, Any]], priors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a batch. Rows are counted; steps and seconds count each video once, however many rows share it."""
    counts = Counter(row["status"] for row in rows)
    videos = {row["key"]: row for row in rows if row["status"] in _THERE}.values()
    sources = [prior for prior in priors if prior["status"] in _THERE]
    spent = sum(video["steps"] for video in videos) + full_steps * len(sources)
    scratch = full_steps * len(videos)
    return {
        "rows": len(rows),
        **{status: counts[status] for status in STATUSES},
        "doubtful": sum(bool(row["doubt"]) for row in rows),
        "identities": len(priors),
        "videos": len(videos),
        "variant_steps": sum(video["steps"] for video in videos),
        "prior_steps": full_steps * len(sources),
        "scratch_steps": scratch,
        "steps_saved": scratch - spent,
        "seconds_per_variant": _mean([video["seconds"] for video in videos]),
        "seconds_per_prior": _mean([prior["seconds"] for prior in sources]),
    }


def _plan_of(store: Store, batch: str) -> dict[str, Any]:
    content = store.read_batch_file(batch, "plan.json")
    try:
        plan: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise DamagedError(
            f"plan.json of batch {batch!r} is not JSON ({error}); run the sheet again, the videos are kept"
        ) from None
    return plan


def _variant(
    entry: Mapping[str, Any], row: Mapping[str, Any] | None, batch: str, parent: Mapping[str, Any] | None
) -> dict[str, Any]:
    status, error = _ended(row, batch)
    if status == "missing" and parent is not None and parent["status"] == "failed":
        status, error = "failed", f"not run, since what it starts from failed: {parent['error']}"
    extra = json.loads((row or {}).get("extra") or "{}")
    return {
        **{name: entry[name] for name in ("id", "label", "identity", "prior", "parent", "key", "prompt", "place")},
        **{name: entry[name] for name in ("start_step", "tail", "sigma", "steps", "tags")},
        "on_line": entry.get("start") == "line",
        # What was really run: the guard may have started once more, from earlier.
        **{name: row[name] for name in ("start_step", "sigma") if row and row.get(name) is not None},
        "steps": (row or {}).get("steps_run") or entry["steps"],
        "negative_prompt": row.get("negative_prompt") if row else None,
        "status": status,
        "error": error,
        "seed": row.get("seed") if row else None,
        "guidance": extra.get("guidance"),
        "doubt": (extra.get("guard") or {}).get("mark"),
        **_seconds(row),
        **_links(row, status),
    }


def _prior(entry: Mapping[str, Any], row: Mapping[str, Any] | None, batch: str) -> dict[str, Any]:
    status, error = _ended(row, batch) if entry.get("used", True) else ("unused", None)
    return {
        "name": entry["identity"],
        "title": entry["identity"],
        "key": entry["key"],
        "prompt": entry["prompt"],
        "seed": entry["seed"],
        "status": status,
        "error": error,
        "steps": row.get("steps_run") if row else None,
        **_seconds(row),
        **_links(row, status),
    }


def _name_apart(priors: Sequence[dict[str, Any]]) -> None:
    """One identity may have several priors (seeds, sizes, pictures): each gets a heading of its own."""
    by_name = Counter(prior["name"] for prior in priors)
    by_seed = Counter((prior["name"], prior["seed"]) for prior in priors)
    for prior in priors:
        if by_name[prior["name"]] > 1:
            prior["title"] += f", seed {prior['seed']}"
        if by_seed[prior["name"], prior["seed"]] > 1:
            prior["title"] += f", {prior['key'][:8]}"


def _ended(row: Mapping[str, Any] | None, batch: str) -> tuple[str, str | None]:
    if row is None:
        return "missing", None
    if row["status"] == "done":
        return ("done" if row["batch"] == batch else "cached"), None
    if row["status"] == "failed" and row["batch"] == batch:
        return "failed", row.get("error") or "no reason was kept"
    # Failed in another batch and not tried in this one, or removed from the store since.
    return "missing", None


def _seconds(row: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Seconds of work; loading the model is left out, since one row pays it for all."""
    phases = [(row or {}).get(f"{phase}_s") for phase in ("encode", "denoise", "decode", "write")]
    known = [value for value in phases if value is not None]
    return {"seconds": round(sum(known), 3) if known else None}


def _links(row: Mapping[str, Any] | None, status: str) -> dict[str, str | None]:
    """Where the files lie, relative to the page: it stays right when the store is moved or served."""
    links: dict[str, str | None] = {}
    for name in ("video", "preview", "latents"):
        uri = row.get(f"{name}_uri") if row and status in _THERE else None
        links[name] = f"../../{uri}" if uri else None
    return links


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 3) if known else None
