"""How a variant gets from its prior to its video: where it starts, and how it walks the noise that is left there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prior_engine.requests.steps import Tail
from tasks.planning.advice import Advice

if TYPE_CHECKING:
    from tasks.settings import Settings
    from tasks.sheets.rows import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A start step, what stands there, and a tail."""

    start_step: int
    tail: Tail
    start: Literal["snapshot", "line", "noise"] = "snapshot"

    @property
    def is_full(self) -> bool:
        """Whether it is a full run, which starts from noise and needs no prior."""
        return self.start == "noise"


Levels = Callable[[], Sequence[float] | None]
# Before the first step there is nothing but noise.
FULL = Way(start_step=-1, tail="exact", start="noise")


def default_way(settings: Settings, total: int, measured: Advice | None, levels: Levels) -> tuple[Way, str]:
    """The way of rows that name none, and where it comes from. `total` is the number of steps of a full run.

    `levels` tells the noise left after each of them, or None where only the run itself will know.
    """
    model, last = settings.model, total - 2
    # Nothing is known of this model: leave three tenths of the walk, the share that the field reports.
    thumb = Way(start_step=max(0, total - 1 - max(1, round(0.3 * total))), tail="exact")
    if measured is not None and measured.start_step is not None and measured.tail is not None:
        way = Way(start_step=measured.start_step, tail=measured.tail, start=measured.start)
        source = "measured by `headstart inflection` for this model, schedule and guidance"
    elif model.start_sigma is None:
        way, source = thumb, "a rule of thumb; measure it with `headstart inflection`"
    elif (left := levels()) is None:
        way = thumb
        source = f"a rule of thumb: where sigma is {model.start_sigma:g} on this schedule is known only when it runs"
    else:
        step = nearest(left[: last + 1], model.start_sigma)
        way = Way(start_step=step, tail=model.tail or "exact", start=model.start)
        source = f"the model's configuration: sigma {model.start_sigma:g}, here {left[step]:.3g}"
    if settings.start_step != "auto":
        if settings.start_step > last:
            raise ValueError(
                f"setting start_step: {settings.start_step} is past the last step to start from; "
                f"give 0..{last}, the schedule has {total} steps"
            )
        way, source = Way(start_step=settings.start_step, tail="exact"), "the settings"
    # What was found best for a model on an ordinary schedule asks for steps that distilled weights do not know.
    tail = "exact" if settings.schedule.tails == "exact" else way.tail
    return Way(
        start_step=min(way.start_step, last),
        tail=tail if settings.tail == "auto" else settings.tail,
        start=way.start if settings.start == "auto" else settings.start,
    ), source


def nearest(left: Sequence[float], sigma: float) -> int:
    """The step after which the noise left is nearest to `sigma`."""
    return min(range(len(left)), key=lambda step: abs(left[step] - sigma))


def way_of(row: Row, settings: Settings, default: Way) -> Way:
    """The way of a row: what it names itself, else the settings, else the default."""
    tail = default.tail if row.tail is None or row.tail == "auto" else row.tail
    start = default.start if settings.start == "auto" else settings.start
    if row.start_step in {None, "auto"}:
        return Way(start_step=default.start_step, tail=tail, start=_named(row) or start)
    # A measured tail and start belong to the measured step; a step of the row's own is taken as it stands.
    if row.tail is None and settings.tail == "auto":
        tail = "exact"
    start = "snapshot" if settings.start == "auto" else settings.start
    return Way(start_step=int(row.start_step or 0), tail=tail, start=_named(row) or start)


def _named(row: Row) -> Literal["snapshot", "line"] | None:
    return None if row.start in {None, "auto"} else "line" if row.start == "line" else "snapshot"
