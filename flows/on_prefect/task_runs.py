"""Shows chunks as task runs of a Prefect flow run: what was handed out, what runs, how it ended.

The server hears of them by the same events as from Prefect's own tasks, and nothing waits for its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from prefect.client.schemas.objects import State, TaskRun, TaskRunResult
from prefect.states import Cancelled, Completed, Failed, Pending, Running

from flows.graph.work import Chunk
from flows.on_prefect.window import Window
from flows.runners.attempts import attempted
from flows.runners.threads import ThreadRunner
from tasks.errors import InterruptedBatchError
from tasks.result import Result

_LONGEST_NAME = 200
_LONGEST_MESSAGE = 10_000
# Which task run the code of this thread belongs to, for its log lines.
current_task_run: ContextVar[UUID | None] = ContextVar("headstart_task_run", default=None)
_NOT_SAID = {"id", "created", "updated", "flow_run_id", "state_id", "state_type", "state_name", "state",
             "estimated_start_time_delta", "estimated_run_time"}  # fmt: skip


class ShownRunner:
    """Threads whose chunks show in the UI."""

    far = False

    def __init__(self, workers: int, window: Window, flow_run: UUID) -> None:
        self._inner = ThreadRunner(workers, self._run)
        self._window, self._flow_run = window, flow_run
        self._shown: dict[int, TaskRun] = {}
        self._ids: dict[str, UUID] = {}
        self.workers = workers

    def submit(self, chunk: Chunk, done: Callable[[Any], None]) -> None:
        """Run on a thread, and show it."""
        before = dict.fromkeys(self._ids[need] for need in chunk.needs if need in self._ids)
        run = TaskRun(
            name=chunk.title[:_LONGEST_NAME],
            task_key=f"headstart-{chunk.works[0].call.__name__}",
            dynamic_key=f"{len(self._ids)}",
            flow_run_id=self._flow_run,
            tags=chunk.tags,
            task_inputs={"after": [TaskRunResult(id=run_id) for run_id in before]},
        )
        self._ids |= dict.fromkeys((work.id for work in chunk.works), run.id)
        self._shown[id(chunk)] = run
        self._enter(run, Pending())

        def ended(outcome: Any) -> None:
            self._enter(self._shown.pop(id(chunk)), _ending(outcome))
            done(outcome)

        self._inner.submit(chunk, ended)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        self._inner.__exit__(*exit_info)
        for run in self._shown.values():
            self._enter(run, Cancelled(message="not begun before the run was stopped"))

    def _run(self, chunk: Chunk) -> list[Result]:
        run = self._shown[id(chunk)]
        self._enter(run, Running())
        token = current_task_run.set(run.id)
        try:
            return attempted(chunk)
        finally:
            current_task_run.reset(token)

    def _enter(self, run: TaskRun, state: State[Any]) -> None:
        """A task run enters a state, and the server is told."""
        before, run.state = run.state, state
        now: Any = state.timestamp
        if state.is_running():
            run.run_count, run.start_time = 1, now
        elif state.is_final() and run.start_time is not None:
            run.end_time, run.total_run_time = now, max(timedelta(), now - run.start_time)
        self._window.tell("POST", "/events", _event(run, before, state))


def _ending(outcome: Any) -> State[Any]:
    if isinstance(outcome, InterruptedBatchError):
        # Work that was stopped on request has not failed.
        return Cancelled(message=str(outcome)[:_LONGEST_MESSAGE])
    if isinstance(outcome, BaseException):
        return Failed(message=(str(outcome) or type(outcome).__name__)[:_LONGEST_MESSAGE])
    return Completed(message=_said(outcome))


def _said(results: Sequence[Result]) -> str:
    return f"{sum(result.steps_run for result in results)} steps run"


def _event(run: TaskRun, before: State[Any] | None, state: State[Any]) -> dict[str, Any]:
    """A change of state, as the server's recorder reads it: the state's id is the event's, so that twice told is once kept."""
    return {
        "id": str(state.id),
        "occurred": state.timestamp.isoformat(),
        "event": f"prefect.task-run.{state.name}",
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{run.id}",
            "prefect.resource.name": run.name,
            "prefect.run-count": str(run.run_count),
            "prefect.state-message": state.message or "",
            "prefect.state-name": state.name or "",
            "prefect.state-timestamp": state.timestamp.isoformat(),
            "prefect.state-type": state.type.value,
            "prefect.orchestration": "client",
        },
        "related": [
            {"prefect.resource.id": f"prefect.flow-run.{run.flow_run_id}", "prefect.resource.role": "flow-run"},
            *({"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in run.tags),
        ],
        "payload": {
            "intended": {"from": before.type.value if before else None, "to": state.type.value},
            "initial_state": _plain(before) if before else None,
            "validated_state": {**_plain(state), "data": None},
            "task_run": run.model_dump(mode="json", exclude_none=True, exclude=_NOT_SAID),
        },
    }


def _plain(state: State[Any]) -> dict[str, Any]:
    return {"type": state.type.value, "name": state.name, "message": state.message, "state_details": {}}
