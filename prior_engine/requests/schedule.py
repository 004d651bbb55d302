"""Everything that fixes the walk from noise to video: solver, grid, shift. Plain numbers, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, get_args

from prior_engine.errors import RequestError, StartStepError, UnsupportedError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.grids import shifted, wan_grid

Grid = Literal["wan", "diffusers", "explicit"]
# In which order the numbers of a generator fill batch, channels, time, height and width.
NoiseLayout = Literal["bcthw", "btchw"]
TRAIN_TIMESTEPS = 1000
# Heun evaluates the model twice for each of its steps but the last.
TWO_EVALUATIONS = "FlowMatchHeunDiscreteScheduler"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Solver class and config, grid, number of steps, shift; or an explicit list of sigmas.

    `scheduler=None` takes the model's own solver; `sigma_shift=None` takes the model's own shift.
    Explicit `sigmas` go through the shift law like every other grid: give them unshifted, or set `sigma_shift=1`.
    So do `timesteps` that stand alone; beside `sigmas` they are what the model is told, as they are.
    `noise_layout` is the order in which noise is drawn; latents stay batch, channels, time, height, width.
    """

    scheduler: str | None = "FlowMatchEulerDiscreteScheduler"
    config: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid = "wan"
    num_inference_steps: int = 10
    denoising_strength: float = 1.0
    sigma_shift: float | None = 5.0
    sigmas: tuple[float, ...] | None = None
    timesteps: tuple[float, ...] | None = None
    noise_layout: NoiseLayout = "bcthw"

    def __post_init__(self) -> None:
        if self.grid not in get_args(Grid):
            raise RequestError(f"grid={self.grid!r} is not known; choose one of {sorted(get_args(Grid))}")
        if self.noise_layout not in get_args(NoiseLayout):
            raise RequestError(
                f"noise_layout={self.noise_layout!r} is not known; choose one of {sorted(get_args(NoiseLayout))}"
            )
        for name in ("sigmas", "timesteps"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, tuple(float(value) for value in given))
        if (self.grid == "explicit") != bool(self.sigmas or self.timesteps):
            raise RequestError(
                f"grid={self.grid!r} with sigmas={self.sigmas!r} and timesteps={self.timesteps!r}; "
                "give sigmas or timesteps with grid='explicit', and with no other grid"
            )
        if self.sigmas and self.timesteps and len(self.sigmas) != len(self.timesteps):
            raise RequestError(f"{len(self.sigmas)} sigmas and {len(self.timesteps)} timesteps; give as many of each")
        if self.grid == "explicit":
            self._check_descending()
            object.__setattr__(self, "num_inference_steps", len(self.sigmas or self.timesteps or ()))
        if self.num_inference_steps < 1:
            raise RequestError(f"num_inference_steps={self.num_inference_steps!r} must be at least 1")
        if not 0 < self.denoising_strength <= 1:
            raise RequestError(f"denoising_strength={self.denoising_strength!r} must be above 0 and at most 1")
        if self.sigma_shift is not None and not self.sigma_shift > 0:
            raise RequestError(f"sigma_shift={self.sigma_shift!r} must be above 0")

    def _check_descending(self) -> None:
        for name, top in (("sigmas", 1.0), ("timesteps", float(TRAIN_TIMESTEPS))):
            values = getattr(self, name)
            if values is None:
                continue
            falls = all(now > after for now, after in pairwise(values))
            if not (falls and values[-1] > 0 and values[0] <= top):
                raise RequestError(f"{name}={list(values)!r} must fall, from at most {top:g} to above 0")

    def sigmas_for(self, shift: float | None = None) -> tuple[float, ...] | None:
        """The noise levels that the steps start from, or None where only diffusers' own code can tell."""
        by = self.sigma_shift if shift is None else shift
        if self.grid == "diffusers" or by is None:
            return None
        if self.grid == "wan":
            return wan_grid(self.num_inference_steps, by, self.denoising_strength)
        base = self.sigmas or tuple(value / TRAIN_TIMESTEPS for value in self.timesteps or ())
        return tuple(shifted(sigma, by) for sigma in base)

    def sigma_after(self, step: int) -> float | None:
        """The noise left after `step`: what a start step means on every grid."""
        sigmas = self.sigmas_for()
        if sigmas is None:
            return None
        if not 0 <= step < len(sigmas):
            raise StartStepError(f"step {step} is outside 0..{len(sigmas) - 1}, the steps of this schedule")
        return (*sigmas, 0.0)[step + 1]

    def describe(self) -> dict[str, Any]:
        """The schedule for recipes and pins."""
        told = {
            "scheduler": self.scheduler,
            "config": dict(self.config),
            "grid": self.grid,
            "num_inference_steps": self.num_inference_steps,
            "denoising_strength": self.denoising_strength,
            "sigma_shift": self.sigma_shift,
            "sigmas": None if self.sigmas is None else list(self.sigmas),
            "timesteps": None if self.timesteps is None else list(self.timesteps),
        }
        # What came later is told where it is used: keys from before stay what they are.
        return told if self.noise_layout == "bcthw" else told | {"noise_layout": self.noise_layout}


def count_steps(schedule: Schedule, info: ModelInfo) -> int:
    """How many steps a full run of `schedule` has, each one evaluation of the model: what start steps count in."""
    count = schedule.num_inference_steps
    if info.family.trims_strength and schedule.grid == "diffusers":
        count = min(int(count * schedule.denoising_strength), count)
    return 2 * count - 1 if (schedule.scheduler or info.scheduler_class) == TWO_EVALUATIONS else count


def line_refusal(info: ModelInfo, schedule: Schedule) -> str | None:
    """Why runs of this schedule cannot start on the straight line between a prior's end and its first noise, if so."""
    solver = schedule.scheduler or info.scheduler_class
    if not info.is_flow:
        return f"a straight-line start needs a flow model, and {info.family.name!r} here is none"
    if info.family.trims_strength:
        return f"the family {info.family.name!r} does not start from pure noise, so there is no straight line to it"
    if solver == TWO_EVALUATIONS:
        return f"a straight-line start needs a solver of one evaluation a step, and {solver} has two"
    return None


def check_told(info: ModelInfo, told: Conditioning, schedule: Schedule) -> None:
    """Refuse what this model cannot be told."""
    if told.guidance_2 is not None and info.boundary_ratio is None:
        raise RequestError(f"guidance_2={told.guidance_2!r} was given, but this model has one expert; leave it out")
    if count_steps(schedule, info) < 1:
        raise RequestError(
            f"denoising_strength={schedule.denoising_strength!r} leaves none of {schedule.num_inference_steps} steps to run; "
            "raise one of them, or use grid='wan', which keeps all steps"
        )
    if schedule.noise_layout != "bcthw" and not info.family.latents_are_bcthw:
        why = "it makes pictures" if info.family.media == "image" else "its latents are laid out otherwise"
        raise UnsupportedError(
            f"noise_layout={schedule.noise_layout!r} cannot be used with {info.family.name!r}: {why}; leave it out"
        )
    if schedule.denoising_strength < 1 and not info.family.trims_strength:
        raise RequestError(
            f"denoising_strength={schedule.denoising_strength!r} needs an input video to start from, "
            f"and the family {info.family.name!r} takes none; set it to 1"
        )
