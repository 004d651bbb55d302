"""Runs a prepared batch with any runner and closes it: batch files, report, and what to say at the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flows.cli.show import settings_yaml
from flows.graph.driver import Driver, stop_on_signals
from flows.prepare import Prepared
from flows.runners.prefect import Runner
from tasks.making.devices import pool_for, workers_of
from tasks.making.ffmpeg import usable_ffmpeg
from tasks.making.progress import Progress
from tasks.making.runtime import Runtime, forget, register
from tasks.pages.report import write_report
from tasks.planning.estimate import estimate
from tasks.planning.work import RowResult


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """How a batch ended."""

    batch: str
    results: tuple[RowResult, ...]
    rows: int
    cached: int
    report: str
    seconds: float
    steps_run: int
    steps_saved: int
    interrupted: bool
    over_limit: bool

    @property
    def done(self) -> int:
        """Rows that this batch finished."""
        return sum(result.kind == "variant" and result.status != "failed" for result in self.results)

    @property
    def priors(self) -> int:
        """Priors that this batch recorded."""
        return sum(result.kind == "prior" and result.status != "failed" for result in self.results)

    @property
    def failed(self) -> tuple[RowResult, ...]:
        """Rows and priors that failed."""
        return tuple(result for result in self.results if result.status == "failed")

    @property
    def left(self) -> int:
        """Rows that were neither finished nor failed."""
        return self.rows - self.cached - self.done - sum(result.kind == "variant" for result in self.failed)


def run_batch(
    prepared: Prepared,
    make_runner: Callable[[], Runner],
    *,
    stop: threading.Event | None = None,
    on_change: Callable[[Progress], None] = lambda _: None,
) -> BatchResult:
    """Run what is missing, keep the batch's files, write its report."""
    plan, context = prepared.plan, prepared.context
    if not prepared.nothing_to_do:
        usable_ffmpeg()  # before the first step, not after the last
    room = None if prepared.nothing_to_do else estimate(plan, prepared.store).bytes
    if room:
        prepared.store.require_space(room)
    write_batch_files(prepared)
    stop = stop or threading.Event()
    progress = Progress.of(plan)
    over_limit = False
    results: list[RowResult] = []
    with stop_on_signals(stop):
        if not prepared.nothing_to_do:
            runtime = Runtime(store=prepared.store, pool=pool_for(context.settings), stop=stop, progress=progress)
            register(context, runtime)
            try:
                with make_runner() as runner:
                    driver = Driver(
                        plan=plan,
                        context=context,
                        runtime=runtime,
                        runner=runner,
                        on_change=on_change,
                        workers=workers_of(context.settings),
                    )
                    results = driver.drive()
                    over_limit = driver.over_limit
            finally:
                forget(context)
    report = write_report(prepared.store, context.batch)
    return BatchResult(
        batch=context.batch,
        results=tuple(results),
        rows=len(plan.variants),
        cached=progress.cached or (len(plan.variants) if prepared.nothing_to_do else 0),
        report=report,
        seconds=progress.seconds,
        steps_run=progress.steps_run,
        steps_saved=progress.steps_saved,
        interrupted=stop.is_set() and not over_limit,
        over_limit=over_limit,
    )


def write_batch_files(prepared: Prepared) -> None:
    """plan.json and config.yaml: what this batch meant to do, kept with the store."""
    store, batch = prepared.store, prepared.context.batch
    store.put_batch_file(batch, "plan.json", json.dumps(plan_document(prepared), ensure_ascii=False).encode())
    store.put_batch_file(batch, "config.yaml", settings_yaml(prepared.settings.model_dump(mode="json")).encode())


def plan_document(prepared: Prepared) -> dict[str, Any]:
    """The plan as plain data: for plan.json, `headstart plan --json` and the report."""
    plan = prepared.plan
    return {
        "batch": prepared.context.batch,
        "sheet": plan.sheet_name,
        "sheet_digest": prepared.sheet.digest,
        "model": dict(plan.model),
        "schedule": dict(plan.schedule),
        "start_step": plan.start.start_step,
        "start_step_from": plan.start_from,
        "start": plan.start.start,
        "full_steps": plan.full_steps,
        "steps_to_run": plan.steps_to_run,
        "steps_from_scratch": plan.steps_from_scratch,
        "priors": [
            {
                "key": prior.key,
                "identity": prior.name,
                "prompt": prior.identity.prompt,
                "seed": prior.identity.seed,
                "cached": prior.cached,
            }
            for prior in plan.priors
        ],
        "rows": [
            {
                "id": variant.row_id,
                "key": variant.key,
                "identity": variant.name,
                "label": variant.label,
                "prior": variant.prior_key,
                "parent": variant.parent_key,
                "prompt": variant.conditioning.prompt,
                "start_step": variant.start_step,
                "tail": variant.way.tail,
                "start": variant.way.start,
                "sigma": variant.sigma,
                "steps": variant.steps,
                "tags": list(variant.tags),
                "cached": variant.cached,
                "place": variant.place,
            }
            for variant in plan.variants
        ],
        "warnings": list(plan.warnings),
    }
