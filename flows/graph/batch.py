"""A batch as a graph: the prompts are encoded, priors recorded, and each row starts when what it starts from is there."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.graph.run import Means, run_graph
from flows.graph.work import Graph, Work
from flows.prepare import Prepared
from prior_engine.video import usable_ffmpeg
from tasks.making.encode import PROMPTS, encode_prompts
from tasks.making.prior import make_prior
from tasks.making.progress import Progress
from tasks.making.variant import make_variants
from tasks.pages.document import report_document
from tasks.pages.report import Written, write_report
from tasks.planning.document import plan_document, settings_yaml
from tasks.planning.estimate import estimate
from tasks.planning.models.source import devices_of
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.result import Result
from tasks.run_state import RowState

if TYPE_CHECKING:
    from prior_store import Store

log = logging.getLogger("headstart")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """How a batch ended. Without a page `report` is empty."""

    batch: str
    results: tuple[Result, ...]
    rows: int
    planned_cached: int
    report: str
    summary: Mapping[str, Any]
    seconds: float
    steps_run: int
    interrupted: bool
    given_up: bool

    @property
    def done(self) -> int:
        """Rows that this batch made."""
        return self._rows("done") + self._rows("same")

    @property
    def cached(self) -> int:
        """Rows that were there, also those that another process made while this batch ran."""
        return self.planned_cached + self._rows("cached")

    @property
    def priors(self) -> int:
        """Priors that this batch recorded."""
        return sum(result.kind == "prior" and result.status == "done" for result in self.results)

    @property
    def failed(self) -> tuple[Result, ...]:
        """Rows and priors that failed."""
        return tuple(result for result in self.results if result.failed)

    @property
    def failed_rows(self) -> tuple[Result, ...]:
        """Rows that failed; where only priors were asked for, priors."""
        rows = tuple(result for result in self.failed if result.kind == "variant")
        return rows or self.failed

    @property
    def why_given_up(self) -> str:
        """Why it ended early, where nobody asked for that."""
        if any(result.for_all for result in self.results):
            return "what ended the last one would end all others too"
        return "more failed than max_failures allows"

    @property
    def left(self) -> int:
        """Rows that were neither finished nor failed."""
        return self.rows - self.cached - self.done - self._rows("failed")

    def _rows(self, status: str) -> int:
        return sum(result.kind == "variant" and result.status == status for result in self.results)


def run_batch(prepared: Prepared, means: Means) -> BatchResult:
    """Do what is missing, keep the batch's files, write its report. `prepared` has a name of its own already."""
    plan, context, store = prepared.plan, prepared.context, prepared.store
    if not prepared.nothing_to_do:
        usable_ffmpeg()  # before the first step, not after the last
        store.require_space(estimate(plan, store).bytes or 0)
    document = plan_document(plan, context.batch, prepared.sheet.digest)
    store.put_batch_file(context.batch, "plan.json", json.dumps(document, ensure_ascii=False).encode())
    store.put_batch_file(context.batch, "config.yaml", settings_yaml(prepared.settings).encode())
    progress = Progress.of(plan)
    there = [
        RowState(id=row.row_id, kind="variant", key=row.key, state="cached") for row in plan.variants if row.cached
    ]
    ran = run_graph(graph_of(prepared), context, store, progress, means, there)
    written = _reported(store, context.batch)
    return BatchResult(
        batch=context.batch,
        results=ran.results,
        rows=len(plan.variants),
        planned_cached=len(there),
        report=written.uri,
        summary=written.summary,
        seconds=progress.seconds,
        steps_run=progress.steps_run,
        interrupted=ran.interrupted,
        given_up=ran.given_up,
    )


def _reported(store: Store, batch: str) -> Written:
    """Write the report. A disk that is full must not hide what was made: then its figures are told without a page."""
    from prior_store.errors import NoSpaceError

    try:
        return write_report(store, batch)
    except NoSpaceError as error:
        log.warning("the report is not written: %s", error)
        return Written("", report_document(store, batch)["summary"])


def graph_of(prepared: Prepared) -> Graph:
    """What the plan lacks, as work."""
    plan, settings = prepared.plan, prepared.settings
    planned: list[PlannedPrior | PlannedVariant] = [*plan.priors_to_do, *plan.variants_to_do]
    distinct = {one.conditioning.texts: one.conditioning for one in planned}
    prompts = Work(
        id=PROMPTS,
        kind=PROMPTS,
        title=f"encode {len(distinct)} prompts",
        call=encode_prompts,
        item=tuple(distinct.values()),
        vital=True,
    )
    made_here = {prior.key for prior in plan.priors_to_do} | {row.row_id for row in plan.variants_to_do}
    works = [
        *([prompts] if planned else []),
        *(_prior(prior) for prior in plan.priors_to_do),
        *(_variant(row, made_here) for row in plan.variants_to_do),
    ]
    return Graph(
        works=tuple(works),
        is_made=lambda work: _made(prepared, work) is not None,
        made_here=lambda work: _made(prepared, work) == prepared.context.batch,
        look_ahead=len(devices_of(settings)) + 1,
        chunk_size=settings.runner.chunk_size,
        max_failures=settings.failure_limit(len(plan.variants)),
    )


def _made(prepared: Prepared, work: Work) -> str | None:
    """The batch that made a work which can be counted on, empty where none is named; None where there is none."""
    store, one = prepared.store, (f"{work.kind}s", work.key or "")
    if work.kind == PROMPTS or store.damaged([one]):
        return None
    commit = store.commit_of(*one)
    return None if commit is None else commit.row.get("batch") or ""


def _prior(prior: PlannedPrior) -> Work:
    return Work(
        id=prior.key,
        kind="prior",
        title=f"prior {prior.name}",
        call=make_prior,
        item=prior,
        key=prior.key,
        needs=(PROMPTS,),
        identity=prior.name,
        spoken=f"the prior of {prior.name!r}",
    )


def _variant(row: PlannedVariant, made_here: set[str]) -> Work:
    parent = PROMPTS if row.way.is_full else row.parent_row or row.prior_key
    return Work(
        id=row.row_id,
        kind="variant",
        title=row.label,
        call=make_variants,
        item=row,
        key=row.key,
        # A prior of an earlier batch is no work of this one; its rows wait for the prompts alone.
        needs=(parent if parent in made_here else PROMPTS,),
        group=row.prior_key,
        identity=row.name,
        spoken=f"its parent {row.row_id!r}",
    )
