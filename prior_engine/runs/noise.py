"""The only module that seeds: noise comes from a CPU generator per sample, whatever device does the work."""

from collections.abc import Sequence

import torch


def generator_for(seed: int) -> torch.Generator:
    """A fresh generator; the same seed draws the same noise on every machine."""
    return torch.Generator("cpu").manual_seed(seed)


def states_of(generators: Sequence[torch.Generator]) -> tuple[torch.Tensor, ...]:
    """Where each generator stands, as tensors that can be stored."""
    return tuple(generator.get_state() for generator in generators)


def put_back(generators: Sequence[torch.Generator], states: Sequence[torch.Tensor]) -> None:
    """Set each generator to a stored state; one stored state serves every sample of a batch."""
    for index, generator in enumerate(generators):
        generator.set_state(states[index if len(states) > 1 else 0].cpu())
