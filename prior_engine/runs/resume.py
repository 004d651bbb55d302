"""What may be resumed from where, and what must match before it is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prior_engine.errors import PinMismatchError, RequestError
from prior_engine.models.spec import ModelInfo
from prior_engine.requests.request import Conditioning, Identity
from prior_engine.requests.schedule import History, Schedule, Tail, check_start_step, tail_grid
from prior_engine.runs.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VariantResult:
    """What a run from a snapshot made, and what it took."""

    latents: Snapshot
    kept: tuple[Snapshot, ...]
    steps_run: int
    sigma: float
    seconds: float
    tail: str
    history: str
    schedule: Schedule
    batch_size: int = 1

    def sample(self, index: int) -> "VariantResult":
        """One sample of a batch."""
        kept = tuple(_sample(one, index) for one in self.kept)
        return replace(self, latents=_sample(self.latents, index), kept=kept)


def _sample(snapshot: Snapshot, index: int) -> Snapshot:
    size = snapshot.latents.shape[0]
    if size == 1:
        return snapshot
    tensors = {
        name: tensor[index : index + 1].clone()
        if tensor.ndim == snapshot.latents.ndim and tensor.shape[0] == size
        else tensor
        for name, tensor in snapshot.state_tensors.items()
    }
    return replace(
        snapshot,
        latents=snapshot.latents[index : index + 1].clone(),
        state_tensors=tensors,
        generators=snapshot.generators[index : index + 1],
        told=snapshot.told[index : index + 1],
    )


def pins_of(info: ModelInfo, identity: Identity, schedule: Schedule, scheduler: Any) -> dict[str, Any]:
    """Everything that must match between a prior and its variants, flat and JSON-able."""
    config = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    asked = schedule.describe()
    pins: dict[str, Any] = {
        "schedule.scheduler": type(scheduler).__name__,
        "schedule.config": _plain(config),
        "schedule.grid": asked["grid"],
        "schedule.num_inference_steps": asked["num_inference_steps"],
        "schedule.denoising_strength": asked["denoising_strength"],
        "schedule.sigma_shift": asked["sigma_shift"],
        "schedule.sigmas": asked["sigmas"],
        "schedule.timesteps": asked["timesteps"],
    }
    pins |= {f"model.{name}": value for name, value in info.describe().items()}
    pins |= {f"identity.{name}": value for name, value in identity.describe().items()}
    return pins


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else repr(value)


def on_the_line(final: Snapshot, step: int) -> Snapshot:
    """The place on the straight line from a prior's last latents to its first noise that is as noisy as after `step`.

    Its latents are still the prior's last ones: the walk adds the noise, since only the pipeline knows how it is drawn.
    """
    if not final.is_final:
        raise RequestError(
            f"a straight-line start needs the prior's last snapshot (step {final.steps - 1}), this is step {final.step}"
        )
    check_start_step(step, final.steps)
    return replace(
        final,
        step=step,
        at=step + 1,
        sigma=final.sigmas[step + 1],
        timestep=final.timesteps[step],
        state={},
        state_tensors={},
    )


def check_pins(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse another schedule, size, model or identity, with every field that differs and both its values."""
    absent = "nothing"
    names = [*was, *(name for name in now if name not in was)]
    differing = {
        name: (was.get(name, absent), now.get(name, absent))
        for name in names
        if was.get(name, absent) != now.get(name, absent)
    }
    if differing:
        raise PinMismatchError(differing)


def check_same_told(broken: Snapshot, now: Conditioning) -> None:
    """A run that broke off goes on as it was told; told otherwise it would be a variant, and nobody's prior."""
    was = dict(broken.told[0]) if len(broken.told) == 1 else {}
    check_pins(*({f"conditioning.{name}": value for name, value in told.items()} for told in (was, now.describe())))


def tail_schedule(schedule: Schedule, snapshot: Snapshot, tail: Tail) -> Schedule:
    """The schedule that walks the noise left at `snapshot` in `tail` steps of its own, by the same law."""
    if not isinstance(tail, int) or isinstance(tail, bool) or tail < 1:
        raise RequestError(f"tail={tail!r} is not known; use 'exact' or a number of steps from 1 on")
    if snapshot.shift is None:
        times = _strided(int(snapshot.timesteps[snapshot.at]), tail)
        return _explicit(schedule, timesteps=times, sigma_shift=None)
    sigmas = tail_grid(snapshot.sigma, tail, snapshot.shift)
    return _explicit(schedule, sigmas=sigmas, sigma_shift=1.0)


def _explicit(schedule: Schedule, **more: Any) -> Schedule:
    return Schedule(scheduler=schedule.scheduler, config=schedule.config, grid="explicit", **more)


def _strided(first: int, count: int) -> tuple[float, ...]:
    """Even whole strides from `first` to below zero, as DDIM walks."""
    stride = -(-(first + 1) // count)
    if (count - 1) * stride > first:
        raise RequestError(f"tail={count} has more steps than the {first + 1} timesteps that are left; ask for fewer")
    return tuple(float(first - index * stride) for index in range(count))


def check_history(snapshot: Snapshot, tail: Tail, history: History) -> None:
    """Between the two evaluations of a Heun step there is no point that could be gone on from afresh."""
    if history not in ("keep", "fresh"):
        raise RequestError(f"history={history!r} is not known; choose one of ['fresh', 'keep']")
    if history == "fresh" and tail == "exact" and snapshot.state.get("prev_derivative") is not None:
        raise RequestError(
            f"step {snapshot.step} lies between the two evaluations of a Heun step, which needs its history; "
            f"start from step {snapshot.step + 1}, or set history='keep'"
        )
