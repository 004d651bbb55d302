"""The one seam: a thin proxy that lets a pipeline see only the part of the schedule that is still to be walked.

The wrapped scheduler keeps the whole schedule: multistep solvers count what is left of it, so it must not be cut.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from prior_engine.errors import UnsupportedError
from prior_engine.runs.solvers.solver import Grid


class Window:
    """A scheduler from its step `start` on."""

    def __init__(
        self,
        scheduler: Any,
        *,
        start: int = 0,
        stop: int | None = None,
        grid: Grid | None = None,
        on_grid: Callable[[Any, float | None], None] | None = None,
        on_first_step: Callable[[], None] | None = None,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self._scheduler = scheduler
        self._start = start
        self._stop = stop
        self._grid = grid
        self._on_grid = on_grid
        self._on_first_step = on_first_step
        self._generators = generators
        self._takes_generator = "generator" in inspect.signature(scheduler.step).parameters

        # Pipelines inspect the signatures of these two to learn what the scheduler accepts.
        @functools.wraps(scheduler.set_timesteps)
        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            self._set_timesteps(*args, **kwargs)

        @functools.wraps(scheduler.step)
        def step(*args: Any, **kwargs: Any) -> Any:
            return self._step(*args, **kwargs)

        self.set_timesteps, self.step = set_timesteps, step

    @property
    def __class__(self) -> type:  # so that isinstance(pipe.scheduler, X) stays true
        return type(self._scheduler)

    @__class__.setter
    def __class__(self, value: type) -> None:
        raise TypeError("a window cannot change its class")

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        raise UnsupportedError(
            "the pipeline copies its scheduler to walk two streams at once, and a window shows one walk"
        )

    def __getattr__(self, name: str) -> Any:
        # Dunder look-ups must fail, or protocols would take the window for the scheduler.
        if name.startswith("__") or name == "_scheduler":
            raise AttributeError(name)
        return getattr(self._scheduler, name)

    def __len__(self) -> int:
        return len(self._scheduler)

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        self._scheduler.set_timesteps(*args, **kwargs)
        if self._grid is not None:
            self._grid.write_over(self._scheduler)
        if (self._start or self._grid is not None) and hasattr(self._scheduler, "set_begin_index"):
            self._scheduler.set_begin_index(self._start)
        if self._on_grid is not None:
            self._on_grid(self._scheduler, kwargs.get("mu"))

    @property
    def timesteps(self) -> torch.Tensor:
        shown: torch.Tensor = self._scheduler.timesteps[self._start : self._stop]
        return shown

    @property
    def sigmas(self) -> torch.Tensor:
        shown: torch.Tensor = self._scheduler.sigmas[self._start :]
        return shown

    def set_begin_index(self, begin_index: int = 0) -> None:
        if self._scheduler.step_index is None:
            self._scheduler.set_begin_index(begin_index + self._start)

    def _step(self, *args: Any, **kwargs: Any) -> Any:
        if self._on_first_step is not None:
            self._on_first_step()
            self._on_first_step = None
        if self._takes_generator and kwargs.get("generator") is None and self._generators:
            many = list(self._generators)
            kwargs["generator"] = many if len(many) > 1 else many[0]
        return self._scheduler.step(*args, **kwargs)


def prepare(pipe: Any, scheduler: Any, arguments: Mapping[str, Any]) -> Any:
    """Call the pipeline without a single step: it encodes what it needs before, and does what it does after."""
    kept_scheduler, pipe.scheduler = pipe.scheduler, Window(scheduler, stop=0)
    try:
        (out,) = pipe(**arguments)
    finally:
        pipe.scheduler = kept_scheduler
    return out
