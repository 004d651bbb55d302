"""Runs one graph, whatever it is about: what its tasks share is set up, its state kept in the store, its end told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.graph.driver import Driver
from flows.graph.signals import stop_on_signals
from flows.graph.watch import OnChange, Watch
from flows.graph.work import Graph, Runner
from tasks.context import Context
from tasks.making.devices import pool_for
from tasks.making.progress import Progress
from tasks.making.runtime import Runtime, forget, register
from tasks.making.scratch import sweep_scratch
from tasks.result import Result
from tasks.run_state import RowState, RunState, forget_cancel, heed

if TYPE_CHECKING:
    from prior_store import Store


@dataclass(kw_only=True)
class Means:
    """With what a run is done: who runs its chunks, who may stop it, who looks on."""

    make_runner: Callable[[], Runner]
    stop: threading.Event = field(default_factory=threading.Event)
    on_change: OnChange = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a graph ended."""

    results: tuple[Result, ...]
    interrupted: bool
    given_up: bool


def run_graph(
    graph: Graph,
    context: Context,
    store: Store,
    progress: Progress,
    means: Means,
    beforehand: Sequence[RowState] = (),
) -> Ran:
    """Do all of it. `beforehand` are rows that were there before, for whoever follows the run in the store."""
    sweep_scratch()
    stop = means.stop
    works = sorted(graph.works, key=lambda work: work.group or "")  # rows that end together stand together
    rows = [*beforehand, *(RowState(id=work.id, kind=work.kind, key=work.key) for work in works if work.key)]
    register(context, Runtime(store=store, pool=pool_for(context.settings), stop=stop, progress=progress))
    try:
        with (
            stop_on_signals(stop),
            RunState(store, context.batch, rows) as state,
            means.make_runner() as runner,
            _heeding(store, context.batch, stop, spread=runner.far),
        ):
            driver = Driver(graph, context, runner, Watch(progress, state, means.on_change), stop)
            results = driver.drive()
    finally:
        forget(context)
    return Ran(results=tuple(results), interrupted=stop.is_set() and not driver.given_up, given_up=driver.given_up)


@contextmanager
def _heeding(store: Store, batch: str, stop: threading.Event, *, spread: bool) -> Iterator[None]:
    forget_cancel(store, batch)
    over = threading.Event()
    watcher = heed(store, batch, stop, over, spread=spread)
    try:
        yield
    finally:
        over.set()
        watcher.join(timeout=5)
