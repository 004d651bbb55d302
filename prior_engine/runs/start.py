"""Where a run starts: at a snapshot's own latents, or on the straight line from them to the first noise."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.requests.steps import check_start_step
from prior_engine.runs.snapshot import Snapshot


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


@contextlib.contextmanager
def starting_at(pipe: Any, latents: torch.Tensor | None, *, noise_share: float) -> Iterator[None]:
    """Let the loop begin with exactly `latents`, or so far on the straight line from them to the pipeline's own noise.

    The pipelines lift given latents to fp32, or lower them to the embeddings' dtype, while between two steps they keep
    the dtype of the model's output; some read the dtype (HunyuanVideo's timestep), so the lift alone changes bits.
    """
    if latents is None:
        yield
        return
    plain = pipe.prepare_latents

    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        made = plain(*args, **kwargs)
        first, *others = made if isinstance(made, tuple) else (made,)
        start = _mixed(latents, first, noise_share) if noise_share else latents
        return (start, *others) if isinstance(made, tuple) else start

    pipe.prepare_latents = prepare_latents
    try:
        yield
    finally:
        del pipe.prepare_latents


def _mixed(clean: torch.Tensor, noise: torch.Tensor, share: float) -> torch.Tensor:
    if clean.shape != noise.shape:
        raise UnsupportedError(
            f"the pipeline's noise has the shape {tuple(noise.shape)} and what it returns {tuple(clean.shape)}; "
            "a straight-line start needs both alike, start from a snapshot"
        )
    # On the host, so that every device starts from the same numbers.
    mixed = torch.lerp(clean.to("cpu", torch.float32), noise.to("cpu", torch.float32), share)
    return mixed.to(noise)
