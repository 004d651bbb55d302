"""The order of a batch, without Prefect: priors first, each row as soon as its parent is there, the report at the end.

The driver runs on one thread and is told of every ending through a queue; work runs wherever the runner puts it.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from flows.runners.prefect import Look, Runner
from tasks.errors import InterruptedBatchError, RowsFailedError
from tasks.making.encode import encode_prompts
from tasks.making.prior import make_prior
from tasks.making.progress import Progress
from tasks.making.runtime import Runtime
from tasks.making.variant import make_variants
from tasks.planning.plan import Plan
from tasks.planning.work import BatchContext, PriorWork, RowResult, VariantWork

log = logging.getLogger("headstart")
MAX_TASK_RUNS = 500
MAX_CHUNK = 64
TASK_SECONDS = 0.5
_PROMPTS = "prompts"


@dataclass
class Driver:
    """Walks the plan's graph. `drive` returns one result a prior and a row."""

    plan: Plan
    context: BatchContext
    runtime: Runtime
    runner: Runner
    on_change: Callable[[Progress], None] = lambda _: None
    workers: int = 3
    results: dict[str, RowResult] = field(default_factory=dict)
    _events: queue.SimpleQueue[tuple[Sequence[Any], Any]] = field(default_factory=queue.SimpleQueue)
    _in_flight: int = 0
    _submitted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.progress = self.runtime.progress
        self._priors = {prior.key: prior for prior in self.plan.priors}
        self._waiting_priors = deque(self.plan.priors_to_do)
        self._children: dict[str, list[VariantWork]] = defaultdict(list)
        # By prior: a task takes rows of one prior only, and reads each of its snapshots once.
        self._ready: dict[str, deque[VariantWork]] = {}
        self._same: dict[str, list[VariantWork]] = defaultdict(list)
        self._lookahead = len(self.runtime.pool.devices) + 1
        self._enough = 4 * self.workers
        self._limit = self.context.settings.failure_limit(len(self.plan.variants))

    @property
    def failures(self) -> int:
        """Rows that failed so far."""
        return sum(result.status == "failed" and result.kind == "variant" for result in self.results.values())

    @property
    def over_limit(self) -> bool:
        """More rows failed than `max_failures` allows."""
        return self._limit is not None and self.failures > self._limit

    def drive(self) -> list[RowResult]:
        """Run everything that is missing."""
        self._sort_out()
        try:
            self._encode()
            while self._in_flight:
                works, outcome = self._next_event()
                self._in_flight -= 1
                self._take(works, outcome)
                if self.over_limit:
                    self.runtime.stop.set()
                if not self.runtime.stop.is_set():
                    self._submit_ready()
        except BaseException:
            # Ctrl-C, SIGTERM or a bug: what runs ends at its next step, and what was finished is kept.
            self.runtime.stop.set()
            raise
        return list(self.results.values())

    def _encode(self) -> None:
        """All distinct prompts first, in one go: afterwards no walk needs the text encoder in memory."""
        works: list[PriorWork | VariantWork] = [*self.plan.priors_to_do, *self.plan.variants_to_do]
        distinct = {work.conditioning.texts: work.conditioning for work in works}
        self._in_flight += 1
        self.runner.submit(
            lambda outcome: self._events.put(((), outcome)),
            encode_prompts,
            tuple(distinct.values()),
            self.context,
            look=Look(name=f"encode {len(distinct)} prompts", tags=(self.context.batch,), makes=(_PROMPTS,)),
        )

    def _sort_out(self) -> None:
        missing_parents = {prior.key for prior in self.plan.priors_to_do}
        first_of_key: dict[str, VariantWork] = {}
        for variant in self.plan.variants_to_do:
            if variant.key in first_of_key:
                self._same[variant.key].append(variant)
                continue
            first_of_key[variant.key] = variant
            missing_parents.add(variant.key)
        for variant in first_of_key.values():
            if variant.parent_key in missing_parents:
                self._children[variant.parent_key].append(variant)
            else:
                self._make_ready(variant)

    def _make_ready(self, variant: VariantWork) -> None:
        self._ready.setdefault(variant.prior_key, deque()).append(variant)

    def _submit_ready(self) -> None:
        # Rows are handed out as they are taken, not all at once: sizes follow what was measured, and a stop has
        # little to call back.
        while self._ready and self._in_flight < self._enough:
            prior_key, rows = next(iter(self._ready.items()))
            self._submit_variants([rows.popleft() for _ in range(min(len(rows), self._chunk_size()))])
            if not rows:
                del self._ready[prior_key]
        while self._waiting_priors and self._priors_in_flight < self._lookahead:
            self._submit_prior(self._waiting_priors.popleft())

    _priors_in_flight: int = 0
    _measured: int = 0
    _busy: float = 0.0

    def _chunk_size(self) -> int:
        """Rows a task: one where a row takes its time, many where Prefect's share of each would be felt."""
        wanted = self.context.settings.runner.chunk_size
        if wanted != "auto":
            return wanted
        many = -(-len(self.plan.variants_to_do) // MAX_TASK_RUNS)
        if not self._measured:
            return max(1, many)
        return max(1, many, min(MAX_CHUNK, int(TASK_SECONDS * self._measured / max(1e-6, self._busy))))

    def _submit_prior(self, prior: PriorWork) -> None:
        self._in_flight += 1
        self._priors_in_flight += 1
        self._submitted.add(prior.key)
        self.runner.submit(
            lambda outcome: self._events.put(((prior,), outcome)),
            make_prior,
            prior,
            self.context,
            look=Look(name=f"prior {prior.name}", tags=self._tags(prior.name), makes=(prior.key,), needs=(_PROMPTS,)),
        )

    def _submit_variants(self, chunk: Sequence[VariantWork]) -> None:
        self._in_flight += 1
        self._submitted.update(variant.key for variant in chunk)
        more = f" and {len(chunk) - 1} more" if len(chunk) > 1 else ""
        self.runner.submit(
            lambda outcome: self._events.put((chunk, outcome)),
            make_variants,
            tuple(chunk),
            self._priors[chunk[0].prior_key],
            self.context,
            look=Look(
                name=f"{chunk[0].label}{more}",
                tags=self._tags(chunk[0].name),
                makes=[variant.key for variant in chunk],
                # A prior of an earlier batch has no task run here; its variants hang on the prompts.
                needs=self._made_here(chunk) or (_PROMPTS,),
            ),
        )

    def _made_here(self, chunk: Sequence[VariantWork]) -> list[str]:
        return [key for key in dict.fromkeys(variant.parent_key for variant in chunk) if key in self._submitted]

    def _tags(self, identity: str) -> tuple[str, ...]:
        return (self.context.batch, identity)

    def _next_event(self) -> tuple[Sequence[Any], Any]:
        while True:
            try:
                return self._events.get(timeout=0.5)
            except queue.Empty:
                self.on_change(self.progress)

    def _take(self, works: Sequence[PriorWork | VariantWork], outcome: Any) -> None:
        if not works:
            # Encoding failed: every row would meet the same error, so it is raised once, for all of them.
            if isinstance(outcome, BaseException) and not isinstance(outcome, InterruptedBatchError):
                raise outcome
            return
        if isinstance(works[0], PriorWork):
            self._priors_in_flight -= 1
        for result in self._results_of(works, outcome):
            self._settle(result)
        self.on_change(self.progress)

    def _results_of(self, works: Sequence[PriorWork | VariantWork], outcome: Any) -> Sequence[RowResult]:
        if isinstance(outcome, RowsFailedError | InterruptedBatchError):
            return outcome.results
        if isinstance(outcome, BaseException):
            # Not an error of a row, but of the machinery around it: told for each row, never lost.
            log.error("a task ended with %s: %s", type(outcome).__name__, outcome)
            return [_failed(work, f"{type(outcome).__name__}: {outcome}") for work in works]
        found: Sequence[RowResult] = outcome
        return found

    def _settle(self, result: RowResult) -> None:
        self.results[result.row_id or result.key] = result
        if result.kind == "variant" and result.status == "done":
            self._measured += 1
            # Loading the model is paid once, whatever the size of a task.
            self._busy += sum(result.seconds.values()) - result.seconds.get("load", 0.0)
        self.progress.finished(result.row_id or result.key, result)
        for twin in self._same.pop(result.key, ()):
            self._settle(
                replace(result, row_id=twin.row_id, status=result.status if result.status == "failed" else "same")
            )
        children = self._children.pop(result.key, [])
        if result.status != "failed":
            for child in children:
                self._make_ready(child)
            return
        for child in children:
            self._settle(_failed(child, f"not run, since {_parent_name(child)} failed: {result.error}"))


def _parent_name(child: VariantWork) -> str:
    return f"its parent {child.parent_row!r}" if child.parent_row else f"the prior of {child.name!r}"


def _failed(work: PriorWork | VariantWork, error: str) -> RowResult:
    if isinstance(work, PriorWork):
        return RowResult(kind="prior", key=work.key, row_id="", identity=work.name, status="failed", error=error)
    return RowResult(kind="variant", key=work.key, row_id=work.row_id, identity=work.name, status="failed", error=error)


class stop_on_signals:  # noqa: N801  reads as what it does: `with stop_on_signals(stop):`
    """The first Ctrl-C or SIGTERM asks the batch to stop at the next step; a second one ends the process."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        self.received = number
        log.warning("stopping at the next step; once more to end at once")
        self._stop.set()
