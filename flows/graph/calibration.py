"""A calibration as a graph: full runs of a few rows, each measured by itself and kept, so that it goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from flows.compose import compose_settings
from flows.graph.run import Means, run_graph
from flows.graph.study import spread_rows
from flows.graph.work import Graph, Work
from flows.prepare import Prepared, prepare_settings
from prior_engine.errors import EngineError
from prior_engine.requests.cache import check_kind
from tasks.context import Context
from tasks.errors import InterruptedBatchError, PlanError
from tasks.making.progress import Progress
from tasks.planning.advice import guidance_of
from tasks.planning.calibration import RECORD, calibration_name
from tasks.studies.calibration import MeasuredRow, measure_rows

if TYPE_CHECKING:
    from prior_store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a calibration is about, and the rows that it runs in full."""

    name: str
    store: Store
    prepared: Prepared
    rows: tuple[MeasuredRow, ...]

    @property
    def nothing_to_do(self) -> bool:
        """All rows were measured before."""
        return not missing_rows(self)


def prepare_calibration(overrides: Sequence[str]) -> Calibration:
    """Choose the rows; every mistake is raised here."""
    named = any(line.partition("=")[0] in {"sheet", "sheet.path"} for line in overrides)
    settings = compose_settings(overrides if named else ["sheet=demo", *overrides])
    if settings.accel.merge_guidance:
        raise PlanError(
            "the cache 'mag' cannot be used with accel.merge_guidance, so there is nothing to measure for it"
        )
    # The settings of the batch that is to use the ratios may be given as they are.
    plain = settings.accel.model_copy(update={"cache": "none", "cache_options": {}})
    prepared = prepare_settings(settings.model_copy(update={"accel": plain}))
    plan = prepared.plan
    try:
        check_kind("mag", prepared.model.family, guidance_of(prepared.settings, full=True))
    except EngineError as refused:
        raise PlanError(str(refused)) from None
    # A LoRA of a row's own makes it another model.
    rows = spread_rows(
        prepared,
        prepared.settings.calibration.rows,
        [row for row in plan.variants if row.conditioning.loras == plan.loras],
    )
    return Calibration(
        name=calibration_name(prepared.settings, plan.model, plan.loras),
        store=prepared.store,
        prepared=prepared,
        rows=tuple(MeasuredRow(variant=row) for row in rows),
    )


def missing_rows(calibration: Calibration) -> list[MeasuredRow]:
    """The rows that nobody has measured."""
    store, name = calibration.store, calibration.name
    return [row for row in calibration.rows if store.batch_file_or_none(name, row.file) is None]


def run_calibration(calibration: Calibration, means: Means) -> dict[str, Any]:
    """Measure what is missing, keep the mean over the rows, and return what is kept."""
    store, plan = calibration.store, calibration.prepared.plan
    interrupted = bool(missing := missing_rows(calibration)) and _measured(calibration, missing, means)
    contents = [store.batch_file_or_none(calibration.name, row.file) for row in calibration.rows]
    known = [json.loads(content) for content in contents if content is not None]
    if interrupted or not known:
        raise InterruptedBatchError(
            f"{len(known)} of {len(calibration.rows)} rows are measured, and kept; run the same command again to continue"
        )
    record = {
        "model": dict(plan.model),
        "schedule": dict(plan.schedule),
        "guidance": guidance_of(calibration.prepared.settings, full=True),
        "ratios": [fmean(of_step) for of_step in zip(*(row["ratios"] for row in known), strict=True)],
        "rows": known,
    }
    store.put_batch_file(calibration.name, RECORD, json.dumps(record, ensure_ascii=False, indent=1).encode())
    return record


def _measured(calibration: Calibration, missing: Sequence[MeasuredRow], means: Means) -> bool:
    """Measure rows; returns whether that was interrupted."""
    store, prepared = calibration.store, calibration.prepared
    works = tuple(
        Work(
            id=row.key,
            kind="row",
            title=f"measure {row.label}",
            call=measure_rows,
            item=row,
            key=row.key,
            identity=row.variant.name,
            vital=True,
        )
        for row in missing
    )
    files = {row.key: row.file for row in missing}
    graph = Graph(
        works=works,
        is_made=lambda work: store.batch_file_or_none(calibration.name, files[work.id]) is not None,
    )
    progress = Progress(totals={"row": len(missing)}, steps_total=prepared.plan.full_steps * len(missing))
    context = Context(batch=calibration.name, settings=prepared.settings)
    return run_graph(graph, context, store, progress, means).interrupted
