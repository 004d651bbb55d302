"""One call of a pipeline through the window: from noise or from a snapshot, to the end, snapshot by snapshot."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from prior_engine.errors import EngineError, NonFiniteLatentsError, PinMismatchError, RunCancelledError
from prior_engine.requests.options import RunOptions
from prior_engine.requests.schedule import NoiseLayout
from prior_engine.runs import noise
from prior_engine.runs.snapshot import Snapshot
from prior_engine.runs.solvers import state as solver_state
from prior_engine.runs.solvers.levels import effective_shift, numbers, sigma_before
from prior_engine.runs.solvers.solver import Grid
from prior_engine.runs.solvers.window import Window
from prior_engine.runs.start import starting_at


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Walk:
    """What one call is to do: `steps` in all, from the one after `origin`, or from noise."""

    scheduler: Any
    steps: int
    grid: Grid | None = None
    origin: Snapshot | None = None
    keeps_history: bool = True
    restarts: bool = False
    adds_noise: bool = False
    generators: Sequence[torch.Generator] = ()
    pins: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[Mapping[str, Any], ...] = ()
    batch_size: int = 1
    noise_layout: NoiseLayout = "bcthw"
    keep: frozenset[int] = frozenset()

    @property
    def begin(self) -> int:
        """The solver's own index of the first step that is run."""
        return 0 if self.origin is None or self.restarts else self.origin.at

    @property
    def first(self) -> int:
        """The number of the first step that is run."""
        return 0 if self.origin is None or self.restarts else self.origin.step + 1


def walk(
    pipe: Any,
    plan: Walk,
    arguments: Mapping[str, Any],
    options: RunOptions,
    *,
    device: torch.device,
    emit: Callable[[Snapshot], None],
) -> Snapshot:
    """Call the pipeline; give every kept snapshot to `emit` as it is made; return the final one."""
    run = _Run(plan, options, device, emit)
    origin = plan.origin
    window = Window(
        plan.scheduler,
        start=plan.begin,
        grid=plan.grid,
        on_grid=run.on_grid,
        on_first_step=run.on_first_step,
        generators=plan.generators,
    )
    kept_scheduler, pipe.scheduler = pipe.scheduler, window
    many = list(plan.generators)
    latents = None if origin is None else _repeated(origin.latents, plan.batch_size).to(device)
    try:
        with (
            starting_at(pipe, latents, noise_share=origin.sigma if origin and plan.adds_noise else 0.0),
            noise.drawn_as(plan.noise_layout, (pipe, "prepare_latents"), (plan.scheduler, "step")),
        ):
            (out,) = pipe(
                **arguments,
                latents=None if plan.adds_noise else latents,
                generator=many[0] if len(many) == 1 else many,
                callback_on_step_end=run.on_step_end,
                callback_on_step_end_tensor_inputs=["latents"],
            )
    finally:
        pipe.scheduler = kept_scheduler
    if run.cancelled:
        raise RunCancelledError(
            f"the run was cancelled after step {run.last} of {plan.steps}; continue from a kept snapshot"
        )
    return run.finish(out)


class _Run:
    """What one walk knows while it goes."""

    def __init__(self, plan: Walk, options: RunOptions, device: torch.device, emit: Callable[[Snapshot], None]) -> None:
        self.plan, self.options, self.device, self.emit = plan, options, device, emit
        self.cancelled = False
        self.last = plan.first - 1
        self._before: dict[str, Any] = {}
        self._shift: float | None = None
        self._final: tuple[int, float, float] | None = None

    def on_grid(self, scheduler: Any, mu: float | None) -> None:
        """The grid is known: check it against the prior's, and put the solver's history back."""
        self._before = solver_state.baseline(scheduler)
        self._shift = effective_shift(scheduler, mu)
        origin = self.plan.origin
        if origin is None or self.plan.restarts:
            return
        for name, was in (("timesteps", origin.timesteps), ("sigmas", origin.sigmas)):
            now = numbers(getattr(scheduler, name, None))
            if now != was:
                raise PinMismatchError({f"schedule.{name}": (list(was), list(now))})
        if self.plan.keeps_history:
            tensors = {name: self._batched(tensor) for name, tensor in origin.state_tensors.items()}
            solver_state.restore(scheduler, origin.state, tensors, self.device)

    def _batched(self, tensor: torch.Tensor) -> torch.Tensor:
        origin = self.plan.origin
        if origin is not None and tensor.ndim == origin.latents.ndim:
            return _repeated(tensor, self.plan.batch_size)
        return tensor

    def on_first_step(self) -> None:
        """Whatever the pipeline drew while preparing is undone: noise goes on where the prior's went on."""
        if self.plan.origin is not None and self.plan.origin.generators:
            noise.put_back(self.plan.generators, self.plan.origin.generators)

    def on_step_end(self, pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        step = self.plan.first + index
        latents = tensors["latents"]
        snapshot_at = self._at(index)
        sigma = sigma_before(self.plan.scheduler, snapshot_at)
        if not bool(torch.isfinite(latents).all()):
            raise NonFiniteLatentsError(
                f"NaN or Inf in the latents after step {step} of {self.plan.steps} (sigma {sigma:.4g} from here on); "
                "try dtype='float32', a lower guidance, or another solver"
            )
        self.last = step
        if step < self.plan.steps - 1:
            if step in self.plan.keep:
                self.emit(self._snapshot(step, snapshot_at, sigma, float(timestep), latents))
        else:
            self._final = (snapshot_at, sigma, float(timestep))
        if self.options.on_step is not None:
            self.options.on_step(step, self.plan.steps)
        if step < self.plan.steps - 1 and self.options.cancel is not None and self.options.cancel():
            self.cancelled = pipe._interrupt = True  # noqa: SLF001 - the pipelines' own way to be stopped
        return {}

    def finish(self, out: torch.Tensor) -> Snapshot:
        """The final snapshot holds what the pipeline itself returns, with whatever it does after the last step."""
        if self._final is None:
            raise EngineError("the pipeline returned before its last step; nothing was made")
        at, sigma, timestep = self._final
        final = self._snapshot(self.plan.steps - 1, at, sigma, timestep, out)
        if final.step in self.plan.keep:
            self.emit(final)
        return final

    def _at(self, index: int) -> int:
        counted = getattr(self.plan.scheduler, "step_index", None)
        if counted is not None:
            return int(counted)
        return self.plan.begin + index + 1

    def _snapshot(self, step: int, at: int, sigma: float, timestep: float, latents: torch.Tensor) -> Snapshot:
        scheduler = self.plan.scheduler
        tree, tensors = solver_state.capture(scheduler, self._before)
        return Snapshot(
            step=step,
            steps=self.plan.steps,
            at=at,
            sigma=sigma,
            timestep=timestep,
            shift=self._shift,
            latents=latents.detach().to("cpu", copy=True),
            state=tree,
            state_tensors={name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()},
            generators=noise.states_of(self.plan.generators),
            sigmas=numbers(getattr(scheduler, "sigmas", None)),
            timesteps=numbers(scheduler.timesteps),
            pins=self.plan.pins,
            told=self.plan.told,
            batch_size=self.plan.batch_size,
        )


def _repeated(tensor: torch.Tensor, batch_size: int) -> torch.Tensor:
    return tensor if tensor.shape[0] == batch_size else tensor.repeat(batch_size, *[1] * (tensor.ndim - 1))
