"""How far a batch is: numbers that any thread may raise and any display may read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from tasks.planning.plan import Plan
from tasks.planning.work import RowResult


@dataclass(slots=True)
class Progress:
    """Counts of one batch. Reading is free; every change takes the lock."""

    priors_total: int = 0
    variants_total: int = 0
    cached: int = 0
    priors_done: int = 0
    variants_done: int = 0
    failed: int = 0
    steps_total: int = 0
    steps_run: int = 0
    steps_saved: int = 0
    full_steps: int = 0
    current: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, plan: Plan) -> Progress:
        """The counts of a batch that is about to start."""
        to_do = plan.variants_to_do
        return cls(
            priors_total=len(plan.priors_to_do),
            variants_total=len(to_do),
            cached=len(plan.variants) - len(to_do),
            steps_total=plan.steps_to_run,
            full_steps=plan.full_steps,
        )

    def step(self, name: str, label: str, step: int, total: int) -> None:
        """One denoising step of `name` was run; people read `label`."""
        with self._lock:
            self.steps_run += 1
            self.current[name] = f"{label} step {step}/{total}"

    def finished(self, name: str, result: RowResult) -> None:
        """`name` is through, well or not."""
        with self._lock:
            self.current.pop(name, None)
            if result.status == "failed":
                self.failed += 1
            elif result.kind == "prior":
                self.priors_done += 1
            else:
                self.variants_done += 1
                self.steps_saved += max(0, self.full_steps - result.steps_run)

    @property
    def seconds(self) -> float:
        """Since the batch started."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """From the speed so far; None before there is any."""
        if not self.steps_run or self.steps_run > self.steps_total:
            return None
        return self.seconds / self.steps_run * (self.steps_total - self.steps_run)

    def line(self) -> str:
        """The state in one plain line."""
        left = self.seconds_left
        eta = f", about {clock(left)} left" if left is not None and self.variants_done < self.variants_total else ""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{clock(self.seconds)}  priors {self.priors_done}/{self.priors_total}, "
            f"variants {self.variants_done}/{self.variants_total} ({self.cached} cached{failed}), "
            f"{self.steps_run} steps run, {self.steps_saved} saved{eta}"
        )


def clock(seconds: float) -> str:
    """`3:07` or `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
