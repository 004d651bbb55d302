"""Turns a schedule into a diffusers scheduler and the numbers of its grid; refuses what cannot be exact."""

import importlib
import inspect
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import torch

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.models.families import refusal_of
from prior_engine.models.info import ModelInfo
from prior_engine.requests.schedule import TRAIN_TIMESTEPS, TWO_EVALUATIONS, Schedule
from prior_engine.runs.solvers.levels import sigma_before

# These walk to the last sigma twice and never to zero: a grid that ends above zero would leave its noise in.
_OWN_GRID_ONLY = frozenset({"DEISMultistepScheduler"})
_ALMOST_ONE = 1 - 1e-6  # log(1 - sigma) must stay finite in the multistep solvers


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """The numbers that the window writes over the solver's own grid, before the solver's layout."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...] | None = None

    def write_over(self, scheduler: Any) -> None:
        """Let the scheduler walk this grid from its first sigma to zero."""
        if not self.sigmas:
            self._write_strides(scheduler)
            return
        sigmas = torch.tensor(self.sigmas, dtype=torch.float64)
        if not type(scheduler).__name__.startswith("FlowMatch"):
            sigmas = sigmas.clamp(max=_ALMOST_ONE)
        times = (
            sigmas * TRAIN_TIMESTEPS if self.timesteps is None else torch.tensor(self.timesteps, dtype=torch.float64)
        )
        if type(scheduler).__name__ == TWO_EVALUATIONS:
            times = torch.cat([times[:1], times[1:].repeat_interleave(2)])
            sigmas = torch.cat([sigmas[:1], sigmas[1:].repeat_interleave(2)])
        sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
        old_times, old_sigmas = scheduler.timesteps, scheduler.sigmas
        scheduler.timesteps = times.to(old_times.dtype).to(old_times.device)
        scheduler.sigmas = sigmas.to(old_sigmas.dtype).to(old_sigmas.device)

    def _write_strides(self, scheduler: Any) -> None:
        """DDIM goes down by `num_train_timesteps // num_inference_steps`: a fraction makes any whole stride."""
        times = [int(value) for value in self.timesteps or ()]
        strides = {now - after for now, after in pairwise(times)} or {times[0] + 1}
        if len(strides) > 1:
            raise RequestError(f"the timesteps {times} are not evenly spaced, as {type(scheduler).__name__} needs them")
        scheduler.timesteps = torch.tensor(times, dtype=scheduler.timesteps.dtype, device=scheduler.timesteps.device)
        scheduler.num_inference_steps = Fraction(2 * TRAIN_TIMESTEPS, 2 * strides.pop() + 1)


def build_scheduler(schedule: Schedule, info: ModelInfo) -> Any:
    """A fresh scheduler: a used one keeps history over `set_timesteps` and would hide it from a snapshot."""
    name = schedule.scheduler or info.scheduler_class
    reason = refusal_of(name)
    if reason is not None:
        raise UnsupportedError(f"the solver {name!r} cannot be resumed exactly: {reason}")
    kind: Any = getattr(importlib.import_module("diffusers"), name, None)
    if not hasattr(kind, "set_timesteps"):
        raise RequestError(f"diffusers has no scheduler {name!r}; name one of its scheduler classes")
    config = _config(schedule, info, name, kind)
    if info.family.gives_sigmas and "sigmas" not in inspect.signature(kind.set_timesteps).parameters:
        raise UnsupportedError(
            f"the family {info.family.name!r} gives its own sigmas to the solver, and {name!r} takes none; "
            "use FlowMatchEulerDiscreteScheduler or UniPCMultistepScheduler"
        )
    try:
        return kind.from_config(config)
    except (ValueError, NotImplementedError, TypeError, ImportError) as problem:
        raise RequestError(f"the solver {name!r} refuses its settings {dict(schedule.config)!r}: {problem}") from None


def _config(schedule: Schedule, info: ModelInfo, name: str, kind: Any) -> dict[str, Any]:
    known = set(inspect.signature(kind.__init__).parameters)
    flow = name.startswith("FlowMatch") or "use_flow_sigmas" in known
    config: dict[str, Any] = {}
    if name == info.scheduler_class:
        config |= {key: value for key, value in info.scheduler_config.items() if key in known}
    elif "use_flow_sigmas" in known and info.is_flow:
        config |= {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    unknown = set(schedule.config) - known
    if unknown:
        raise RequestError(f"the solver {name!r} has no setting {sorted(unknown)}; it has {sorted(known - {'self'})}")
    config |= dict(schedule.config)
    if schedule.grid != "diffusers":
        # A given grid is neither stretched to another end nor shifted by the size.
        config |= {key: off for key, off in (("shift_terminal", None), ("use_dynamic_shifting", False)) if key in known}
    if schedule.sigma_shift is None:
        return config
    if not flow or not info.is_flow:
        raise RequestError(f"sigma_shift={schedule.sigma_shift!r} has no effect on the solver {name!r}; set it to null")
    config["shift" if name.startswith("FlowMatch") else "flow_shift"] = schedule.sigma_shift
    if "use_dynamic_shifting" in known:
        config["use_dynamic_shifting"] = False
    return config


def levels_after(schedule: Schedule, info: ModelInfo) -> tuple[float, ...] | None:
    """The noise left after each step by the solver's own layout, or None where that hangs on what is made."""
    scheduler = build_scheduler(schedule, info)
    if scheduler.config.get("use_dynamic_shifting") or info.family.gives_sigmas or info.family.trims_strength:
        return None
    scheduler.set_timesteps(schedule.num_inference_steps)
    grid = grid_of(schedule, scheduler)
    if grid is not None:
        grid.write_over(scheduler)
    return tuple(sigma_before(scheduler, at + 1) for at in range(len(scheduler.timesteps)))


def grid_of(schedule: Schedule, scheduler: Any) -> Grid | None:
    """The numbers to write over the solver's own, or None where its own grid was asked for."""
    if schedule.grid == "diffusers":
        return None
    name = type(scheduler).__name__
    own = scheduler.config.get("shift") if name.startswith("FlowMatch") else scheduler.config.get("flow_shift")
    if schedule.timesteps and not schedule.sigmas and "DDIM" in name:
        return Grid(sigmas=(), timesteps=schedule.timesteps)
    if not hasattr(scheduler, "sigmas") or own is None:
        raise UnsupportedError(f"the solver {name!r} does not walk sigmas; use grid='diffusers' with it")
    if name in _OWN_GRID_ONLY:
        raise UnsupportedError(f"the solver {name!r} never walks to zero by a given grid; use grid='diffusers' with it")
    # Timesteps that stand alone are shifted with the noise that they stand for, or the model would be told another noise.
    as_given = bool(schedule.sigmas) or own == 1
    return Grid(sigmas=schedule.sigmas_for(float(own)) or (), timesteps=schedule.timesteps if as_given else None)


def expert_spans(schedule: Schedule, info: ModelInfo, *, grid: Grid | None, begin: int, steps: int) -> dict[str, range]:
    """Which experts a walk of `grid` from the solver's step `begin` needs, and which of all `steps` each will make.

    The high-noise expert is not among them when the walk starts past the boundary: it need never be loaded.
    """
    if info.boundary_ratio is None:
        return {"transformer": range(begin, steps)}
    scheduler = build_scheduler(schedule, info)
    scheduler.set_timesteps(schedule.num_inference_steps)
    if grid is not None:
        grid.write_over(scheduler)
    times = scheduler.timesteps.tolist()
    boundary = info.boundary_ratio * scheduler.config.num_train_timesteps
    high = sum(time >= boundary for time in times)
    spans = {"transformer": range(begin, high), "transformer_2": range(max(begin, high), len(times))}
    return {name: span for name, span in spans.items() if len(span)}
