"""Walks a graph of work: each piece as soon as what it needs is there, each key once, and every ending told.

It runs on one thread and hears of every ending through a queue; the work itself runs wherever the runner puts it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter, defaultdict, deque
from dataclasses import replace
from typing import Any

from flows.graph.watch import Watch
from flows.graph.work import Chunk, Graph, Runner, Work
from tasks.context import Context
from tasks.errors import InterruptedBatchError, RowsFailedError
from tasks.result import Result, Status

log = logging.getLogger("headstart")
MAX_TASK_RUNS = 500
MAX_CHUNK = 64
TASK_SECONDS = 0.5


class Driver:
    """One walk of one graph. `drive` returns a result for each work that came to an end."""

    def __init__(self, graph: Graph, context: Context, runner: Runner, watch: Watch, stop: threading.Event) -> None:
        self.graph, self.context, self.runner, self.watch, self.stop = graph, context, runner, watch, stop
        self.results: dict[str, Result] = {}
        self._by_id = {work.id: work for work in graph.works}
        self._lacks: dict[str, set[str]] = {}
        self._waiting: dict[str, list[Work]] = defaultdict(list)
        self._twins: dict[str, list[Work]] = defaultdict(list)
        # What nobody shares a task with, and by group what may: a task reads what its group shares only once.
        self._ready: dict[str | None, deque[Work]] = {}
        # Works that run by themselves and that others wait for.
        self._opens: set[str] = set()
        self._openers: deque[Work] = deque()
        self._opening = 0
        self._events: queue.SimpleQueue[tuple[Chunk, Any]] = queue.SimpleQueue()
        self._in_flight = 0
        self._grouped = sum(work.group is not None for work in graph.works)
        self._measured, self._busy = 0, 0.0
        self._failed: Counter[str] = Counter()
        self._hopeless = False

    @property
    def given_up(self) -> bool:
        """Whether more works failed than the graph allows, or one for a reason that all others would meet."""
        limit = self.graph.max_failures
        return self._hopeless or (limit is not None and self._failed[self.graph.counted] > limit)

    def drive(self) -> list[Result]:
        """Do all that can be done."""
        self._sort_out()
        try:
            self._submit_ready()
            while self._in_flight:
                chunk, outcome = self._next_event()
                self._in_flight -= 1
                self._opening -= chunk.works[0].id in self._opens
                self._take(chunk, outcome)
                if self.given_up:
                    self.stop.set()
                self._submit_ready()
        except BaseException:
            # Ctrl-C, SIGTERM or a bug: what runs ends at its next step, and what was finished is kept.
            self.stop.set()
            raise
        return list(self.results.values())

    def _sort_out(self) -> None:
        firsts: dict[str, Work] = {}
        for work in self.graph.works:
            first = firsts.setdefault(work.key or work.id, work)
            if first is not work:
                self._twins[first.id].append(work)
                continue
            # What is not in the graph is there already, or the work itself will say that it is not.
            self._lacks[work.id] = {need for need in work.needs if need in self._by_id}
            for need in self._lacks[work.id]:
                self._waiting[need].append(work)
        self._opens = {need for need in self._waiting if self._by_id[need].group is None}
        for work in firsts.values():
            if not self._lacks[work.id]:
                self._make_ready(work)

    def _make_ready(self, work: Work) -> None:
        if work.id in self._opens:
            self._openers.append(work)
        else:
            self._ready.setdefault(work.group, deque()).append(work)

    def _submit_ready(self) -> None:
        # Works are handed out as they are taken, not all at once: sizes follow what was measured, and a stop has
        # little to call back. What finishes rows goes before what opens new ones.
        while not self.stop.is_set() and self._ready and self._in_flight < 4 * self.runner.workers:
            group, works = next(iter(self._ready.items()))
            size = 1 if group is None else self._chunk_size()
            self._submit([works.popleft() for _ in range(min(len(works), size))])
            if not works:
                del self._ready[group]
        while not self.stop.is_set() and self._openers and self._opening < self.graph.look_ahead:
            self._opening += 1
            self._submit([self._openers.popleft()])

    def _chunk_size(self) -> int:
        """Works a task: one where a row takes its time, many where the share of each in the machinery would be felt."""
        if self.graph.chunk_size != "auto":
            return self.graph.chunk_size
        many = -(-self._grouped // MAX_TASK_RUNS)
        if not self._measured:
            return max(1, many)
        return max(1, many, min(MAX_CHUNK, int(TASK_SECONDS * self._measured / max(1e-6, self._busy))))

    def _submit(self, works: list[Work]) -> None:
        self._in_flight += 1
        needs = tuple(dict.fromkeys(need for work in works for need in work.needs))
        chunk = Chunk(works=tuple(works), context=self.context, needs=needs)
        self.watch.begun([work.id for work in works])
        self.runner.submit(chunk, lambda outcome: self._events.put((chunk, outcome)))

    def _next_event(self) -> tuple[Chunk, Any]:
        while True:
            try:
                return self._events.get(timeout=0.5)
            except queue.Empty:
                self.watch.looked()

    def _take(self, chunk: Chunk, outcome: Any) -> None:
        if isinstance(outcome, InterruptedBatchError):
            # Whoever ran it may have heard of the stop before this process did.
            self.stop.set()
        for result in self._results_of(chunk, outcome):
            self._settle(result)
        self.watch.looked()

    def _results_of(self, chunk: Chunk, outcome: Any) -> list[Result]:
        if not isinstance(outcome, BaseException):
            return list(outcome)
        named = list(outcome.results) if isinstance(outcome, RowsFailedError | InterruptedBatchError) else []
        known = {result.id for result in named}
        silent = [work for work in chunk.works if work.id not in known]
        if isinstance(outcome, RowsFailedError):
            return named
        if not isinstance(outcome, InterruptedBatchError):
            if chunk.works[0].vital:
                raise outcome
            # Not an error of a row, but of the machinery around it: told for each row, never lost.
            log.error("a task ended with %s: %s", type(outcome).__name__, outcome)
        # Whoever ran it may have finished more than it could tell; the store knows.
        made = [
            work.ended("done" if self.graph.made_here(work) else "cached")
            for work in silent
            if self.graph.is_made(work)
        ]
        if isinstance(outcome, InterruptedBatchError):
            return named + made
        there = {result.id for result in made}
        error = f"{type(outcome).__name__}: {outcome}"
        return named + made + [work.ended("failed", error) for work in silent if work.id not in there]

    def _settle(self, first: Result) -> None:
        """Take a result, those of its twins, and what follows from it for those that waited."""
        results = deque([first])
        while results:
            result = results.popleft()
            if result.id in self.results:
                continue
            work = self._by_id[result.id]
            self._count(work, result)
            for twin in self._twins.pop(work.id, ()):
                status: Status = "same" if result.status == "done" else result.status
                results.append(replace(result, id=twin.id, status=status))
            for child in self._waiting.pop(work.id, ()):
                if result.failed:
                    why = f"not run, since {work.spoken or work.title} failed: {result.error}"
                    results.append(child.ended("failed", why))
                    continue
                self._lacks[child.id].discard(work.id)
                if not self._lacks[child.id] and child.id not in self.results:
                    self._make_ready(child)

    def _count(self, work: Work, result: Result) -> None:
        self.results[result.id] = result
        self._failed[result.kind] += result.failed
        self._hopeless |= result.for_all
        if work.group is not None and result.status == "done":
            self._measured += 1
            self._busy += result.work_seconds
        self.watch.ended(result)
