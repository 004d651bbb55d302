"""What the store knows of a run while it goes: the state of every row, and the wish that it should stop.

A run's folder holds `rows-0000.json` and so on: a thousand rows a file, each written again as a whole when something in it
has changed, so that neither the number of files nor their size follows from how often that happens. Whoever can read the
store can follow the run; `cancel.json` in the same folder stops it, on whatever machine its work is done.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from tasks.result import Result

if TYPE_CHECKING:
    from prior_store import Store

log = logging.getLogger("headstart")
FORMAT = "headstart.rows/1"
PIECE = 1000
CANCEL = "cancel.json"
EVERY_S = 1.0
# Writing takes at most this share of the time, however slow the store is.
SHARE = 0.05

State = Literal["waiting", "running", "done", "cached", "failed", "cancelled"]


@dataclass(slots=True)
class RowState:
    """One row, or one prior that rows wait for."""

    id: str
    kind: str
    key: str
    state: State = "waiting"
    reason: str | None = None
    seconds: float | None = None
    steps_run: int = 0


class RunState:
    """Keeps the states of one run, and writes them from a thread of its own."""

    def __init__(self, store: Store, batch: str, rows: Sequence[RowState]) -> None:
        self._store, self._batch = store, batch
        self._rows = list(rows)
        self._place = {row.id: number for number, row in enumerate(self._rows)}
        self._changed = set(range(-(-len(self._rows) // PIECE)))
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="headstart-state", daemon=True)

    def begun(self, ids: Iterable[str]) -> None:
        """These rows were handed out."""
        for name in ids:
            self._change(name, state="running")

    def ended(self, result: Result) -> None:
        """A row came to an end."""
        self._change(
            result.id,
            # A row that shares another row's video is done like that one.
            state="done" if result.status == "same" else result.status,
            reason=result.error,
            seconds=round(result.work_seconds, 3) if result.seconds else None,
            steps_run=result.steps_run,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What was not finished is cancelled: nothing of this run goes on after it."""
        self._over.set()
        self._thread.join()
        for row in self._rows:
            if row.state in {"waiting", "running"}:
                self._change(row.id, state="cancelled")
        self.write()

    def write(self) -> None:
        """Write what has changed."""
        with self._lock:
            changed, self._changed = self._changed, set()
            pieces = {number: self._piece(number) for number in changed}
        for number, content in pieces.items():
            try:
                self._store.put_batch_file(self._batch, piece_name(number), content)
            except Exception as error:  # noqa: BLE001  states are for those who look on; the rows themselves are safe
                log.warning("the state of the run could not be written: %s", error)
                with self._lock:
                    self._changed.add(number)

    def _change(self, name: str, **values: Any) -> None:
        number = self._place.get(name)
        if number is None:
            return
        with self._lock:
            for field, value in values.items():
                setattr(self._rows[number], field, value)
            self._changed.add(number // PIECE)

    def _piece(self, number: int) -> bytes:
        rows = self._rows[number * PIECE : (number + 1) * PIECE]
        lines = [[row.id, row.kind, row.key, row.state, row.reason, row.seconds, row.steps_run] for row in rows]
        return json.dumps({"format": FORMAT, "rows": lines}, ensure_ascii=False, separators=(",", ":")).encode()

    def _write_on(self) -> None:
        pause = EVERY_S
        while not self._over.wait(pause):
            started = time.monotonic()
            self.write()
            pause = max(EVERY_S, (time.monotonic() - started) / SHARE)


def piece_name(number: int) -> str:
    """The file of one thousand rows."""
    return f"rows-{number:04d}.json"


def read_states(store: Store, batch: str) -> list[RowState]:
    """All rows of a run, as they were last written."""
    rows: list[RowState] = []
    while (content := store.batch_file_or_none(batch, piece_name(len(rows) // PIECE))) is not None:
        lines = json.loads(content)["rows"]
        rows += [RowState(*line) for line in lines]
        if len(lines) < PIECE:
            break
    return rows


def cancel(store: Store, batch: str, why: str = "") -> None:
    """Ask every process that works on a run to stop at its next step."""
    asked = {"asked_at": datetime.now(UTC).isoformat(timespec="seconds"), "why": why}
    store.put_batch_file(batch, CANCEL, json.dumps(asked).encode())


def forget_cancel(store: Store, batch: str) -> None:
    """A wish to stop was meant for the run before: a new one under the same name goes on."""
    if store.batch_file_or_none(batch, CANCEL) is not None:
        store.remove_batch_file(batch, CANCEL)


def heed(
    store: Store, batch: str, stop: threading.Event, over: threading.Event, *, spread: bool = False
) -> threading.Thread:
    """Set `stop` when somebody asks the run to stop through the store, until `over` is set.

    With `spread`, a stop that was asked for here is passed on to the processes elsewhere.
    """

    def look() -> None:
        while not over.wait(EVERY_S):
            if stop.is_set():
                if spread:
                    try:
                        cancel(store, batch, "stopped where it was started")
                    except Exception as error:  # noqa: BLE001  a thread that dies of it would only print a traceback
                        log.warning("the processes elsewhere were not told to stop: %s", error)
                return
            try:
                asked = store.batch_file_or_none(batch, CANCEL)
            except Exception as error:  # noqa: BLE001  the store may be away for a moment; the next look asks again
                log.debug("the store does not say whether the run was cancelled: %s", error)
                continue
            if asked is not None:
                log.warning("the run was cancelled through the store; stopping at the next step")
                stop.set()
                return

    watcher = threading.Thread(target=look, name="headstart-heed", daemon=True)
    watcher.start()
    return watcher
