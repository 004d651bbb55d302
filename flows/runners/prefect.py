"""Where tasks run: on threads of this process, with Prefect recording each, or plainly without a server.

Both take the same functions and give the same little future, so the order of a batch is written once and tested
without a server. Prefect's cache and result storage stay off: the store is the only cache.
"""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol, Self

from tasks.errors import InterruptedBatchError, RowsFailedError, SettingsError
from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a piece of work shows to those who look on: its name, its tags, and what it hangs on in the graph."""

    name: str
    tags: Sequence[str] = ()
    makes: Sequence[str] = ()
    needs: Sequence[str] = ()


class Runner(Protocol):
    """Takes work, tells when it is done."""

    def submit(self, done: Callable[[Any], None], function: Callable[..., Any], *args: Any, look: Look) -> None:
        """Run `function(*args)` and give its result, or the exception that it raised, to `done`."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """Wait for what runs, then end."""


class PlainRunner:
    """Threads, nothing else."""

    def __init__(self, workers: int, retries: int = 0) -> None:
        self._retries = retries
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart")

    def submit(self, done: Callable[[Any], None], function: Callable[..., Any], *args: Any, look: Look) -> None:
        """Run on a thread; `look` is for those who look on, and nobody does."""
        del look

        def tell(future: Future[Any]) -> None:
            if not future.cancelled():
                done(future.exception() or future.result())

        self._pool.submit(self._tried, function, *args).add_done_callback(tell)

    def _tried(self, function: Callable[..., Any], *args: Any) -> Any:
        for delay in _backoff(self._retries):
            try:
                return function(*args)
            except RowsFailedError as error:
                if not _passing(error):
                    raise
                time.sleep(delay)
        return function(*args)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class PrefectRunner:
    """Prefect tasks of the flow that is running.

    The task runner is ours, not the flow's: a flow that the UI or a schedule started knows no settings yet when it
    chooses one, and would run as many threads as there are tasks.
    """

    def __init__(self, settings: Settings, workers: int) -> None:
        self._retries = settings.retries
        self._task_runner = _task_runner(settings, workers)
        self._futures: list[Any] = []
        self._task_run_ids: dict[str, Any] = {}

    def submit(self, done: Callable[[Any], None], function: Callable[..., Any], *args: Any, look: Look) -> None:
        """Submit as a task run that looks as told."""
        from prefect import task
        from prefect.cache_policies import NO_CACHE
        from prefect.client.schemas.objects import TaskRunResult

        stopped: list[InterruptedBatchError] = []
        run: Any = task(
            name=function.__name__.replace("_", "-"),
            task_run_name=_literal(look.name),
            tags=list(look.tags),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=self._retries,
            retry_delay_seconds=_backoff,
            retry_jitter_factor=0.5,
            retry_condition_fn=_may_pass,
        )(_stoppable(function, stopped))
        parameters = dict(zip(inspect.signature(function).parameters, args, strict=True))
        # Edges of the graph in the UI, nothing that is waited for: the driver submits only what can start.
        before = {TaskRunResult(id=self._task_run_ids[key]) for key in look.needs if key in self._task_run_ids}
        future = self._task_runner.submit(run, parameters, dependencies={next(iter(parameters)): before})
        self._task_run_ids |= dict.fromkeys(look.makes, future.task_run_id)
        self._futures.append(future)
        future.add_done_callback(lambda ended: done(stopped[-1] if stopped else _outcome(ended)))

    def __enter__(self) -> Self:
        self._task_runner.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        for future in self._futures:
            future.wait()
        self._task_runner.__exit__(*exit_info)


def _task_runner(settings: Settings, workers: int) -> Any:
    kind, address = settings.runner.kind, settings.runner.address
    if kind == "local":
        from prefect.task_runners import ThreadPoolTaskRunner

        return ThreadPoolTaskRunner(max_workers=workers)
    module, runner = {"ray": ("prefect_ray", "RayTaskRunner"), "dask": ("prefect_dask", "DaskTaskRunner")}[kind]
    try:
        made = getattr(importlib.import_module(module), runner)
    except ImportError:
        raise SettingsError(
            f"runner.kind={kind} needs the package {module}; install it: pip install 'headstart-video[{kind}]'"
        ) from None
    return made(address=address)


def _literal(name: str) -> str:
    """Prefect fills braces in run names; ours are plain text."""
    return name.replace("{", "(").replace("}", ")")[:200]


def _backoff(retries: int) -> list[float]:
    return [min(60.0, 2.0**number) for number in range(retries)]


def _stoppable(function: Callable[..., Any], ends: list[InterruptedBatchError]) -> Callable[..., Any]:
    """Work that was stopped on request ends as Cancelled in the UI: nothing has failed.

    A cancelled task run has no result, so what it finished is told through `ends` (within this process).
    """

    @wraps(function)
    def run(*args: Any, **named: Any) -> Any:
        from prefect.states import Cancelled

        try:
            return function(*args, **named)
        except InterruptedBatchError as stopped:
            ends.append(stopped)
            return Cancelled(message=str(stopped))

    return run


def _outcome(future: Any) -> Any:
    from prefect.exceptions import CancelledRun

    try:
        ended = future.result(raise_on_failure=False)
        # A cancelled run has an exception or nothing at all as its result; no task of ours returns nothing.
        stopped_early = ended is None or isinstance(ended, CancelledRun)
        return InterruptedBatchError(str(ended or "stopped")) if stopped_early else ended
    except CancelledRun as stopped:
        return InterruptedBatchError(str(stopped))
    except BaseException as error:  # noqa: BLE001  whatever a task ended with is the outcome, and is told as such
        return error


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Try again only what may go away by itself: storage and network, never a wrong input."""
    return _passing(state.result(raise_on_failure=False))


def _passing(error: object) -> bool:
    return isinstance(error, RowsFailedError) and any(result.transient for result in error.results)
