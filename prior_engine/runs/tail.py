"""The noise that is left at a snapshot, walked in steps of its own."""

from typing import Any

from prior_engine.errors import RequestError
from prior_engine.requests.grids import tail_grid
from prior_engine.requests.schedule import Schedule
from prior_engine.requests.steps import History, Tail
from prior_engine.runs.snapshot import Snapshot


def tail_schedule(schedule: Schedule, snapshot: Snapshot, tail: int) -> Schedule:
    """The schedule that walks the noise left at `snapshot` in `tail` steps of its own, by the same law."""
    if snapshot.shift is None:
        times = strided(int(snapshot.timesteps[snapshot.at]), tail)
        return _explicit(schedule, timesteps=times, sigma_shift=None)
    sigmas = tail_grid(snapshot.sigma, tail, snapshot.shift)
    return _explicit(schedule, sigmas=sigmas, sigma_shift=1.0)


def _explicit(schedule: Schedule, **more: Any) -> Schedule:
    return Schedule(
        scheduler=schedule.scheduler,
        config=schedule.config,
        noise_layout=schedule.noise_layout,
        grid="explicit",
        **more,
    )


def strided(first: int, count: int) -> tuple[float, ...]:
    """Even whole strides from `first` to below zero, as DDIM walks."""
    stride = -(-(first + 1) // count)
    if (count - 1) * stride > first:
        raise RequestError(f"tail={count} has more steps than the {first + 1} timesteps that are left; ask for fewer")
    return tuple(float(first - index * stride) for index in range(count))


def check_history(snapshot: Snapshot, tail: Tail, history: History) -> None:
    """Between the two evaluations of a Heun step there is no point that could be gone on from afresh."""
    if history == "fresh" and tail == "exact" and snapshot.state.get("prev_derivative") is not None:
        raise RequestError(
            f"step {snapshot.step} lies between the two evaluations of a Heun step, which needs its history; "
            f"start from step {snapshot.step + 1}, or set history='keep'"
        )
