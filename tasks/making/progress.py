"""How far a run is: numbers that any thread may raise and any display may read."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from tasks.planning.plan import Plan
from tasks.result import Result

# The speed that an estimate goes by is that of the last minute: priors, tails and other people's work differ.
_WINDOW_S = 60.0
_SAMPLE_S = 0.5


@dataclass(slots=True)
class Progress:
    """Counts of one run. Reading is free; every change takes the lock."""

    totals: Mapping[str, int] = field(default_factory=dict)
    cached: int = 0
    failed: int = 0
    steps_total: int = 0
    done: Counter[str] = field(default_factory=Counter)
    current: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _counted: int = 0
    _reported: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, plan: Plan) -> Progress:
        """The counts of a batch that is about to start."""
        to_do = plan.variants_to_do
        return cls(
            totals={"prior": len(plan.priors_to_do), "variant": len(to_do)},
            cached=len(plan.variants) - len(to_do),
            steps_total=plan.steps_to_run,
        )

    @property
    def steps_run(self) -> int:
        """Steps of this run: counted as they are made here, told by their results when they were made elsewhere."""
        return max(self._counted, self._reported)

    def step(self, name: str, label: str, step: int, total: int) -> None:
        """One denoising step of `name` was run; people read `label`."""
        with self._lock:
            self._counted += 1
            self.current[name] = f"{label} step {step}/{total}"
            self._sample()

    def ended(self, result: Result) -> None:
        """A piece of work is through, well or not."""
        with self._lock:
            self.current.pop(result.id, None)
            self._reported += result.steps_run
            self._sample()
            if result.failed:
                self.failed += 1
            else:
                self.done[result.kind] += 1

    def _sample(self) -> None:
        now = time.monotonic()
        if self._samples and now - self._samples[-1][0] < _SAMPLE_S:
            return
        self._samples.append((now, self.steps_run))
        while now - self._samples[0][0] > _WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()

    @property
    def seconds(self) -> float:
        """Since the run started."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """From the speed of the last minute, loading the model left out; None before there is one."""
        samples = list(self._samples)
        if len(samples) < 2 or samples[-1][1] == samples[0][1] or self.steps_run > self.steps_total:
            return None
        (began, first), (_, last) = samples[0], samples[-1]
        # Up to now, not to the last step: a row that hangs makes the estimate grow.
        return (time.monotonic() - began) / (last - first) * (self.steps_total - self.steps_run)

    def line(self) -> str:
        """The state in one plain line."""
        left = self.seconds_left
        eta = f", about {clock(left)} left" if left else ""
        failed = f", {self.failed} failed" if self.failed else ""
        counts = ", ".join(f"{kind}s {self.done[kind]}/{total}" for kind, total in self.totals.items())
        cached = f" ({self.cached} more were already there)" if self.cached else ""
        return f"{clock(self.seconds)}  {counts}{cached}{failed}, {self.steps_run} of {self.steps_total} steps{eta}"


def clock(seconds: float) -> str:
    """`3:07` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
