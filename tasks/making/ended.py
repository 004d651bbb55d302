"""How a prior or a row ended: its result where it failed, and what the store's index says of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.result import Result, may_pass, meets_all, reason

if TYPE_CHECKING:
    from prior_store import Store
    from tasks.making.guard import Look

log = logging.getLogger("headstart")


def list_rows(store: Store, rows: Iterable[Mapping[str, Any]]) -> None:
    """List how works ended. Where that fails nothing is lost: the next run finds what is committed, and lists it."""
    from prior_store.errors import StoreError

    rows = list(rows)
    try:
        store.add_rows(rows)
    except (OSError, StoreError) as error:
        log.warning("%d rows are not in the manifest yet, the next run lists them: %s", len(rows), reason(error))


def failed(work: PlannedPrior | PlannedVariant, error: BaseException, context: Context) -> Result:
    """The result of a piece of work that `error` ended."""
    kind, name = ("prior", work.key) if isinstance(work, PlannedPrior) else ("variant", work.row_id)
    return Result(
        id=name,
        kind=kind,
        key=work.key,
        identity=work.name,
        status="failed",
        error=reason(error),
        transient=may_pass(error),
        for_all=meets_all(error),
        attempts=context.attempt,
    )


def manifest_row(
    work: PlannedPrior | PlannedVariant,
    context: Context,
    result: Result,
    *,
    device: str | None = None,
    start: int | None = None,
    sigma: float | None = None,
    look: Look | None = None,
) -> dict[str, Any]:
    """One row, as far as the workflow knows it; the store adds files, bytes and times of its own."""
    source = work if isinstance(work, PlannedPrior) else work.prior
    schedule, identity = source.recipe["schedule"], source.identity
    settings = context.settings
    row: dict[str, Any] = {
        "kind": f"{result.kind}s",
        "key": work.key,
        "identity": work.name,
        "batch": context.batch,
        "prompt": work.conditioning.prompt,
        "negative_prompt": work.conditioning.negative_prompt,
        "seed": identity.seed,
        "steps_run": result.steps_run,
        "steps_full": source.steps,
        "model": settings.model.source,
        "model_fingerprint": source.recipe["model"]["fingerprint"],
        "scheduler": schedule["scheduler"],
        "grid": schedule["grid"],
        "width": identity.width,
        "height": identity.height,
        "frames": identity.frames,
        "fps": settings.fps,
        "dtype": source.recipe["model"]["dtype"],
        "status": result.status,
        "error": result.error,
        "attempts": result.attempts,
        "device": device,
        "tags": list(dict.fromkeys((*settings.tags, *work.tags))),
        **_phases(result.seconds),
    }
    extra: dict[str, Any] = {"guidance": work.conditioning.guidance}
    if isinstance(work, PlannedVariant):
        row |= {
            "row_id": work.row_id,
            "parent_key": work.parent_key or None,
            "start_step": None if work.way.is_full else work.start_step if start is None else start,
            # As the snapshot has it; the plan knows it beforehand only for grids that need no diffusers.
            "sigma": None if work.way.is_full else work.sigma if sigma is None else sigma,
        }
        extra["tail"] = work.way.tail
        if work.way.start != "snapshot":
            extra["start"] = work.way.start
        if look is not None:
            extra["guard"] = look.as_plain()
    row["extra"] = extra
    return row


def _phases(seconds: Mapping[str, float]) -> dict[str, float]:
    """Our phases as the manifest's columns: making the mp4 counts as writing."""
    writing = seconds.get("encode", 0.0) + seconds.get("write", 0.0)
    named = {"load_s": "load", "encode_s": "encode_text", "denoise_s": "denoise", "decode_s": "decode"}
    found = {column: seconds[phase] for column, phase in named.items() if phase in seconds}
    return found | ({"write_s": writing} if writing else {})
