"""What the contest walks: one list for each purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

GUIDANCE, LONG = 4.0, 30


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to make the variant. `full` and `scratch` use no prior; the others start at `sigma` of one."""

    how: str
    steps: int
    guidance: float = GUIDANCE
    prior: int = 0
    sigma: float = 1.0

    @property
    def name(self) -> str:
        """How the table calls it."""
        if self.prior:
            return f"{self.how}, prior of {self.prior}, sigma {self.sigma:.3f}, guidance {self.guidance:g}, {self.steps} steps"
        return f"{self.how}, guidance {self.guidance:g}, {self.steps} steps"


CONTROLS = [
    *(Setting(how="full", steps=LONG, guidance=g) for g in (4.0, 3.0, 2.5, 2.0)),
    *(Setting(how="full", steps=10, guidance=g) for g in (4.0, 3.0)),
    *(Setting(how="scratch", steps=n, guidance=g) for n, g in product((4, 3), (4.0, 2.5))),
]


def to_choose_by() -> Iterator[Setting]:
    """The grid that is looked through."""
    yield from CONTROLS
    for steps, scale, sigma in product((4, 3, 2), (4.0, 3.0, 2.5), (0.769, 0.833, 0.882)):
        for how in ("difference", "line"):
            yield Setting(how=how, prior=LONG, sigma=sigma, guidance=scale, steps=steps)
    for how in ("difference", "line"):
        for prior, scale, steps in product((10, 50), (4.0, 3.0), (4, 3)):
            yield Setting(how=how, prior=prior, sigma=0.833, guidance=scale, steps=steps)
        for scale in (4.0, 3.0, 2.5, 2.0):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=1)
        for scale in (4.0, 3.0):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=5)


def to_quote() -> Iterator[Setting]:
    """What was chosen, and its neighbours in steps and length of the prior."""
    yield from CONTROLS
    for steps, scale in product((4, 3, 2), (4.0, 3.0, 2.5)):
        for how in ("difference", "line"):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=steps)
    for how, scale, steps in product(("difference", "line"), (3.0, 2.5), (4, 3)):
        yield Setting(how=how, prior=LONG, sigma=0.882, guidance=scale, steps=steps)
    for steps, scale in ((3, 2.0), (2, 2.0), (1, 2.0)):
        yield Setting(how="line", prior=LONG, sigma=0.833, guidance=scale, steps=steps)
    for prior, steps in product((10, 20, 50), (4, 3)):
        yield Setting(how="line", prior=prior, sigma=0.833, guidance=2.5, steps=steps)
    yield Setting(how="difference", prior=50, sigma=0.833, guidance=2.5, steps=4)
    yield Setting(how="resume", prior=LONG, sigma=0.833, steps=3)
    yield Setting(how="resume", prior=LONG, sigma=0.833, guidance=2.5, steps=3)


def to_confirm() -> Iterator[Setting]:
    """What is said elsewhere, on pairs that it was not seen on; also what another training is asked."""
    yield from (Setting(how="full", steps=LONG, guidance=g) for g in (4.0, 3.0, 2.5))
    yield Setting(how="full", steps=10)
    for prior, steps in product((10, 20, LONG), (4, 3)):
        yield Setting(how="line", prior=prior, sigma=0.833, guidance=2.5, steps=steps)
    yield Setting(how="line", prior=LONG, sigma=0.833, guidance=2.5, steps=2)
    yield Setting(how="line", prior=LONG, sigma=0.833, steps=3)
    for steps, scale in product((4, 3), (4.0, 2.5)):
        yield Setting(how="difference", prior=LONG, sigma=0.833, guidance=scale, steps=steps)
    yield Setting(how="resume", prior=LONG, sigma=0.833, steps=3)
    yield from (Setting(how="scratch", steps=3, guidance=g) for g in (4.0, 2.5))


def to_swap() -> Iterator[Setting]:
    """Another colour or shape is asked for: that is decided earlier in a run than what somebody does."""
    yield from (Setting(how="full", steps=LONG, guidance=g) for g in (4.0, 2.5))
    for sigma, scale in product((0.833, 0.882, 0.921, 0.952), (4.0, 2.5)):
        yield Setting(how="line", prior=LONG, sigma=sigma, guidance=scale, steps=3)
    for sigma, scale in product((0.882, 0.921), (4.0, 2.5)):
        yield Setting(how="difference", prior=LONG, sigma=sigma, guidance=scale, steps=3)
    yield Setting(how="line", prior=LONG, sigma=0.921, guidance=2.5, steps=4)
    yield Setting(how="resume", prior=LONG, sigma=0.921, steps=3)
    yield from (Setting(how="scratch", steps=3, guidance=g) for g in (4.0, 2.5))
