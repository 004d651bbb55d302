"""Which steps: those that leave a snapshot, the one that is started from, those that a tail runs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prior_engine.errors import RequestError, StartStepError

Tail = Literal["exact"] | int
History = Literal["keep", "fresh"]

MOST_STEPS = 1000


def parse_tail(value: object) -> Tail:
    """Read a tail from a setting, a cell or a caller; the message goes on from whatever named it."""
    if isinstance(value, str) and value.strip().lower() == "exact":
        return "exact"
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            steps = int(value)
            if steps == float(value) and 1 <= steps <= MOST_STEPS:
                return steps
    except (ValueError, OverflowError):
        pass
    raise RequestError(f"is {value!r}; 'exact' or a number of steps from 1 is needed")


@dataclass(frozen=True, slots=True)
class Keep:
    """Which steps of a run leave a snapshot: `all`, `from:K`, or those of a list."""

    asked: str | Sequence[int] = "all"

    def __post_init__(self) -> None:
        if not _is_way_to_keep(self.asked):
            raise RequestError(f"{self.asked!r} is not known; use all, from:K or a list of steps such as [4,6]")
        if not isinstance(self.asked, str):
            object.__setattr__(self, "asked", tuple(self.asked))

    def __str__(self) -> str:
        return str(self.asked)

    def steps(self, total: int) -> frozenset[int]:
        """The kept ones among the steps of a run of `total`."""
        if self.asked == "all":
            return frozenset(range(total))
        if isinstance(self.asked, str):
            return frozenset(range(int(self.asked.removeprefix("from:")), total))
        outside = [step for step in self.asked if not 0 <= step < total]
        if outside:
            raise RequestError(f"steps {outside} cannot be kept; this run has the steps 0..{total - 1}")
        return frozenset(self.asked)


def _is_way_to_keep(asked: object) -> bool:
    if isinstance(asked, str):
        return re.fullmatch(r"all|from:[0-9]+", asked) is not None
    return isinstance(asked, Sequence) and all(type(step) is int for step in asked)


def check_start_step(step: int, steps: int) -> None:
    """A variant runs at least one step of a prior of `steps` steps, and starts after one that was made."""
    if steps < 2:
        raise StartStepError(f"the prior has {steps} step; nothing can start from it, record one with at least 2")
    if not 0 <= step <= steps - 2:
        raise StartStepError(
            f"start step {step} is outside 0..{steps - 2}, the steps that a variant of this prior can start from"
        )
