"""What a solver says of its own grid, as plain numbers: noise levels, timesteps, shift."""

import math
from typing import Any

import torch


def numbers(values: torch.Tensor | None) -> tuple[float, ...]:
    return () if values is None else tuple(values.to("cpu").to(torch.float64).tolist())


def sigma_before(scheduler: Any, at: int) -> float:
    """The noise level that is left before the solver's step `at`."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        return float(sigmas[at])
    if at >= len(scheduler.timesteps):
        return 0.0
    kept = scheduler.alphas_cumprod[int(scheduler.timesteps[at])]
    return float((1 - kept) ** 0.5)


def effective_shift(scheduler: Any, mu: float | None) -> float | None:
    """The shift that the solver's grid follows; the size-dependent one of `mu` is the same law with shift exp(mu)."""
    config = scheduler.config
    if config.get("use_dynamic_shifting") and mu is not None:
        return math.exp(mu) if config.get("time_shift_type", "exponential") == "exponential" else float(mu)
    found = config.get("shift") if type(scheduler).__name__.startswith("FlowMatch") else config.get("flow_shift")
    return None if found is None or not hasattr(scheduler, "sigmas") else float(found)
