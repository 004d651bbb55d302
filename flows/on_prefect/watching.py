"""What moves in the Prefect UI while a run goes: its progress bar, and the button that cancels it.

The UI is a window, not a record: when it cannot be written to, the run goes on and the log says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flows.graph.watch import OnChange
from tasks.making.progress import Progress

log = logging.getLogger("headstart")
_EVERY_S = 1.0


@dataclass
class Watcher:
    """Passes progress on to the UI, not more often than it can take, and hears when a person cancels the run there."""

    artifact: UUID | None
    beside: OnChange | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    def on_change(self, progress: Progress) -> None:
        """Called by the driver whenever something changed, and twice a second at least."""
        if self.beside is not None:
            self.beside(progress)
        if self.artifact is None or time.monotonic() - self._last < _EVERY_S:
            return
        self._last = time.monotonic()
        self.show(100 * progress.steps_run / max(1, progress.steps_total))

    def show(self, percent: float) -> None:
        """Move the bar."""
        from prefect.artifacts import update_progress_artifact

        artifact = self.artifact
        if artifact is not None:
            kindly(lambda: update_progress_artifact(artifact_id=artifact, progress=min(100.0, percent)))


@contextmanager
def watch_progress(to_do: str, beside: OnChange | None = None) -> Iterator[Watcher]:
    """A progress artifact for as long as a batch or a study runs."""
    from prefect.artifacts import create_progress_artifact

    made = kindly(lambda: create_progress_artifact(progress=0.0, key="progress", description=to_do))
    watcher = Watcher(artifact=made, beside=beside)
    with _hearing_cancels(watcher.stop):
        yield watcher
    if not watcher.stop.is_set():
        watcher.show(100.0)


@contextmanager
def _hearing_cancels(stop: threading.Event) -> Iterator[None]:
    """Set `stop` when this run is cancelled in the UI: a run that a shell started has nobody else who would tell it."""
    from prefect.runtime import flow_run

    over = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(UUID(str(flow_run.id)), stop, over), name="headstart-cancel", daemon=True
    )
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join(timeout=_EVERY_S)


def _listen(run: UUID, stop: threading.Event, over: threading.Event) -> None:
    from prefect import get_client
    from prefect.client.schemas.objects import StateType

    with get_client(sync_client=True) as client:
        while not over.wait(_EVERY_S):
            try:
                state = client.read_flow_run(run).state
            except Exception as error:  # noqa: BLE001  as `kindly`; the next look may find the server again
                log.debug("the Prefect server does not say whether this run was cancelled: %s", error)
                continue
            if state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}:
                log.warning("cancelled in the Prefect UI; stopping at the next step")
                stop.set()
                return


def kindly(call: Callable[[], Any]) -> Any:
    """Tell the UI something; a shut window stops nothing."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  the UI is a window; the batch does not stop because it is shut
        log.warning("the Prefect UI could not be updated: %s", error)
        return None
