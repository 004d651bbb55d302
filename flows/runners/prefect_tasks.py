"""Runs chunks as task runs of the Prefect flow that is running.

Prefect's cache, retries and result storage stay off: the store is the only cache, and what may pass by itself is tried
again in the task, so that this is one law for every runner.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Self

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRunResult
from prefect.exceptions import CancelledRun
from prefect.states import Cancelled
from prefect.task_runners import ThreadPoolTaskRunner

from flows.graph.work import Chunk
from flows.runners.attempts import attempted
from tasks.errors import InterruptedBatchError, SettingsError
from tasks.settings import RunnerSettings

_PACKAGES = {"ray": ("prefect_ray", "RayTaskRunner"), "dask": ("prefect_dask", "DaskTaskRunner")}


class PrefectRunner:
    """The task runner is ours, not the flow's: a flow that the UI or a schedule started knows no settings yet when it
    chooses one, and would run as many threads as there are tasks.
    """

    def __init__(self, settings: RunnerSettings, workers: int) -> None:
        self.workers = workers
        self.far = settings.kind != "local"
        self._task_runner = _task_runner(settings, workers)
        self._futures: list[Any] = []
        self._task_run_ids: dict[str, Any] = {}

    def submit(self, chunk: Chunk, done: Callable[[Any], None]) -> None:
        """Submit as a task run."""
        stopped: list[InterruptedBatchError] = []

        def run(after: None) -> Any:
            del after  # only a name for the edges of the graph
            # Work that was stopped on request ends as Cancelled in the UI: nothing has failed. A cancelled run has no
            # result, so what it finished is told beside it; from another process the driver asks the store instead.
            try:
                return attempted(chunk)
            except InterruptedBatchError as error:
                stopped.append(error)
                return Cancelled(message=str(error))

        submitted: Any = task(
            name=chunk.works[0].call.__name__.replace("_", "-"),
            task_run_name=_literal(chunk.title),
            tags=chunk.tags,
            cache_policy=NO_CACHE,
            persist_result=False,
        )(run)
        # Edges of the graph in the UI, nothing that is waited for: the driver submits only what can start. The chunk
        # is no parameter, since Prefect would look through all of it for futures.
        before = {TaskRunResult(id=self._task_run_ids[need]) for need in chunk.needs if need in self._task_run_ids}
        future = self._task_runner.submit(submitted, {"after": None}, dependencies={"after": before})
        self._task_run_ids |= dict.fromkeys((work.id for work in chunk.works), future.task_run_id)
        self._futures.append(future)
        future.add_done_callback(lambda ended: done(stopped[-1] if stopped else _outcome(ended)))

    def __enter__(self) -> Self:
        self._task_runner.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        for future in self._futures:
            future.wait()
        self._task_runner.__exit__(*exit_info)


def _task_runner(settings: RunnerSettings, workers: int) -> Any:
    if settings.kind == "local":
        return ThreadPoolTaskRunner(max_workers=workers)
    module, runner = _PACKAGES[settings.kind]
    try:
        made = getattr(importlib.import_module(module), runner)
    except ImportError:
        raise SettingsError(
            f"runner.kind={settings.kind} needs the package {module}; "
            f"install it: pip install 'headstart-video[{settings.kind}]'"
        ) from None
    return made(address=settings.address)


def _literal(name: str) -> str:
    """Prefect fills braces in run names; ours are plain text."""
    return name.replace("{", "(").replace("}", ")")[:200]


def _outcome(future: Any) -> Any:
    try:
        ended = future.result(raise_on_failure=False)
    except CancelledRun as stopped:
        return InterruptedBatchError(str(stopped))
    except BaseException as error:  # noqa: BLE001  whatever a task ended with is the outcome, and is told as such
        return error
    # A cancelled run has an exception or nothing at all as its result; no task of ours returns nothing.
    stopped_early = ended is None or isinstance(ended, CancelledRun)
    return InterruptedBatchError(str(ended or "stopped")) if stopped_early else ended
