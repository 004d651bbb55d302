"""Runs a walk beside the caller, so that one step can be saved while the next is made."""

import queue
import threading
from collections.abc import Callable, Iterator

from prior_engine.runs.snapshot import Snapshot

Emit = Callable[[Snapshot], None]


def stream(run: Callable[[Emit, Callable[[], bool]], object]) -> Iterator[Snapshot]:
    """Yield every snapshot that `run` emits, as it is made, while `run` goes on by itself.

    `run` gets the function to emit with, and one that says whether the caller has lost interest.
    """
    made: queue.Queue[Snapshot | None] = queue.Queue(maxsize=2)
    gone = threading.Event()
    failures: list[BaseException] = []

    def emit(snapshot: Snapshot) -> None:
        while not gone.is_set():
            try:
                made.put(snapshot, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            run(emit, gone.is_set)
        except BaseException as problem:  # noqa: BLE001 - handed to the caller's thread, where it is raised
            failures.append(problem)
        finally:
            while not gone.is_set():
                try:
                    made.put(None, timeout=0.2)
                except queue.Full:
                    continue
                break

    worker = threading.Thread(target=work, name="headstart-record", daemon=True)
    worker.start()
    try:
        while (snapshot := made.get()) is not None:
            yield snapshot
    finally:
        gone.set()
        worker.join()
    if failures:
        raise failures[0]
