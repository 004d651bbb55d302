"""Runs a walk beside the caller, so that one step can be saved while the next is made."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence

from prior_engine.errors import RequestError
from prior_engine.runs.snapshot import Snapshot

Emit = Callable[[Snapshot], None]
Keep = str | Sequence[int]


def keeper(keep: Keep, steps: int) -> Callable[[int], bool]:
    """Which steps to keep: 'all', a list of steps, or 'from:k'."""
    if keep == "all":
        return lambda _: True
    if isinstance(keep, str):
        word, _, number = keep.partition(":")
        if word != "from" or not number.isdigit():
            raise RequestError(f"keep={keep!r} is not known; use 'all', 'from:k' or a list of steps")
        first = int(number)
        _check_steps([first], steps)
        return lambda step: step >= first
    _check_steps(keep, steps)
    chosen = frozenset(keep)
    return chosen.__contains__


def _check_steps(wanted: Sequence[int], steps: int) -> None:
    outside = [step for step in wanted if not 0 <= step < steps]
    if outside:
        raise RequestError(f"steps {outside} cannot be kept; this run has the steps 0..{steps - 1}")


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
