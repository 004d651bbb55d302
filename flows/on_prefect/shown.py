"""A flow run as the Prefect UI shows it while its work goes on: its task runs, its log, its progress, its cancel button."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flows.graph.run import Means
from flows.graph.watch import OnChange
from flows.on_prefect.orphans import own_labels
from flows.on_prefect.task_runs import ShownRunner, current_task_run
from flows.on_prefect.window import Window
from tasks.errors import ServerError
from tasks.making.progress import Progress

log = logging.getLogger("headstart")
_EVERY_S = 1.0
_LONGEST_LOG = 10_000


@dataclass
class Shown:
    """One flow run, seen from this process."""

    run: UUID
    window: Window
    beside: OnChange | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _bar: UUID | None = None
    _last: float = 0.0

    def means(self, workers: int) -> Means:
        """With what the run's graph is walked, so that it shows."""
        return Means(
            make_runner=lambda: ShownRunner(workers, self.window, self.run), stop=self.stop, on_change=self.on_change
        )

    def on_change(self, progress: Progress) -> None:
        """Called by the driver whenever something changed, and twice a second at least."""
        if self.beside is not None:
            self.beside(progress)
        if time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            self.show(100 * progress.steps_run / max(1, progress.steps_total))

    def show(self, percent: float) -> None:
        """Move the bar."""
        if self._bar is not None:
            self.window.tell_latest("PATCH", f"/artifacts/{self._bar}", {"data": min(100.0, percent)})

    def publish(self, kind: str, key: str, data: Any, description: str) -> None:
        """Show an artifact: a table or a text."""
        body = {"key": key, "type": kind, "description": description, "flow_run_id": str(self.run)}
        self.window.tell("POST", "/artifacts/", {**body, "data": data if kind == "markdown" else json.dumps(data)})

    def ended_unheard(self, state: Any) -> None:
        """Tell how the flow run ended where Prefect's engine does, if it will find nobody who listens."""
        if self.window.away:
            self.ended(state)

    def ended(self, state: Any) -> None:
        """Tell how the flow run ended, where no engine of Prefect's does."""
        kept = {"type": state.type.value, "name": state.name, "message": state.message}
        self.window.tell("POST", f"/flow_runs/{self.run}/set_state", {"state": kept, "force": True})


@contextmanager
def in_flow_run(to_do: str) -> Iterator[Shown]:
    """Show the flow run that Prefect has started in this process."""
    from prefect.runtime import flow_run

    log.setLevel(logging.INFO)
    with _shown(UUID(str(flow_run.id)), to_do) as shown:
        shown.window.tell("PATCH", f"/flow_runs/{shown.run}/labels", own_labels())
        yield shown


@contextmanager
def as_flow_run(
    flow: Any, parameters: Mapping[str, Any], name: str, to_do: str, beside: OnChange | None = None
) -> Iterator[Shown]:
    """Show a new flow run. What this process has prepared already needs no engine of Prefect's to run it."""
    from prefect.states import Crashed

    with _shown(_opened(flow, parameters, name), to_do, beside) as shown:
        try:
            yield shown
        except BaseException as error:
            shown.ended(Crashed(message=f"{type(error).__name__}: {error}"[:_LONGEST_LOG]))
            raise


def _opened(flow: Any, parameters: Mapping[str, Any], name: str) -> UUID:
    from prefect import get_client
    from prefect.settings import PREFECT_UI_URL
    from prefect.states import Pending, Running

    try:
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(flow, name=name, parameters=dict(parameters), state=Pending())
            client.set_flow_run_state(run.id, Running(), force=True)
    except Exception as error:
        raise ServerError(
            f"the Prefect server did not take the run: {error}; look into its log, or run without it: server=none"
        ) from error
    log.info("View at %s/runs/flow-run/%s", PREFECT_UI_URL.value(), run.id)
    return UUID(str(run.id))


@contextmanager
def _shown(run: UUID, to_do: str, beside: OnChange | None = None) -> Iterator[Shown]:
    with Window() as window:
        shown = Shown(run=run, window=window, beside=beside, _bar=_progress_bar(run, to_do))
        with _log_lines(window, run), _hearing_cancels(run, shown.stop):
            yield shown
            if not shown.stop.is_set():
                shown.show(100.0)


def _progress_bar(run: UUID, to_do: str) -> UUID | None:
    from prefect import get_client
    from prefect.client.schemas.actions import ArtifactCreate

    try:
        with get_client(sync_client=True) as client:
            bar = ArtifactCreate(key="progress", type="progress", data=0.0, description=to_do, flow_run_id=run)
            return UUID(str(client.create_artifact(bar).id))
    except Exception as error:  # noqa: BLE001  a run without a bar is still a run
        log.warning("the Prefect UI shows no progress bar: %s", error)
        return None


class _Lines(logging.Handler):
    """Our own log lines, shown with the run and the task run that they belong to."""

    def __init__(self, window: Window, run: UUID) -> None:
        super().__init__(logging.INFO)
        self._window, self._run = window, run

    def emit(self, record: logging.LogRecord) -> None:
        task_run = current_task_run.get()
        line = {
            "name": record.name, "level": record.levelno, "message": record.getMessage()[:_LONGEST_LOG],
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(), "flow_run_id": str(self._run),
        }  # fmt: skip
        self._window.tell("POST", "/logs/", line | ({"task_run_id": str(task_run)} if task_run else {}))


@contextmanager
def _log_lines(window: Window, run: UUID) -> Iterator[None]:
    lines = _Lines(window, run)
    log.addHandler(lines)
    try:
        yield
    finally:
        log.removeHandler(lines)


@contextmanager
def _hearing_cancels(run: UUID, stop: threading.Event) -> Iterator[None]:
    """Set `stop` when this run is cancelled in the UI: a run that a shell started has nobody else who would tell it."""
    over = threading.Event()
    listener = threading.Thread(target=_listen, args=(run, stop, over), name="headstart-cancel", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join(timeout=_EVERY_S)


def _listen(run: UUID, stop: threading.Event, over: threading.Event) -> None:
    from prefect import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
        while not over.wait(_EVERY_S):
            try:
                state = client.read_flow_run(run).state
            except Exception as error:  # noqa: BLE001  the next look may find the server again
                log.debug("the Prefect server does not say whether this run was cancelled: %s", error)
                continue
            if state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}:
                log.warning("cancelled in the Prefect UI; stopping at the next step")
                stop.set()
                return
