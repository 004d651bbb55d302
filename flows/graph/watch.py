"""Who looks on while a graph is walked: the counts of this process, the states in the store, a display."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tasks.making.progress import Progress
from tasks.result import Result
from tasks.run_state import RunState

OnChange = Callable[[Progress], None]


class Watch:
    """Hears from the driver what begins and ends, and passes it on."""

    def __init__(self, progress: Progress, state: RunState | None = None, on_change: OnChange = lambda _: None) -> None:
        self._progress, self._state, self._on_change = progress, state, on_change

    def begun(self, ids: Iterable[str]) -> None:
        """These were handed out."""
        if self._state is not None:
            self._state.begun(ids)

    def ended(self, result: Result) -> None:
        """This came to an end."""
        self._progress.ended(result)
        if self._state is not None:
            self._state.ended(result)

    def looked(self) -> None:
        """A moment has passed."""
        self._on_change(self._progress)
