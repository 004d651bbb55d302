"""Ctrl-C and SIGTERM while a run goes."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any, Self

log = logging.getLogger("headstart")


class stop_on_signals:  # noqa: N801  reads as what it does: `with stop_on_signals(stop):`
    """The first Ctrl-C or SIGTERM asks the run to stop at the next step; a second one ends the process."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop

    def __enter__(self) -> Self:
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: object) -> None:
        if self._stop.is_set():
            raise KeyboardInterrupt
        log.warning("stopping at the next step; press Ctrl-C again to end at once")
        self._stop.set()
