"""Which attention `accel.attention_backend=auto` stands for on this machine, with this model."""

from __future__ import annotations

from importlib.util import find_spec

from prior_engine.models.families import Family
from prior_engine.models.spec import DEFAULT_ATTENTION

# By speed: package, what diffusers calls it, and the first generation of cards that runs it. They are exact up to
# rounding; what computes attention in 8 bits is another quality, and has to be asked for by name.
_FASTER = (("flash_attn_interface", "_flash_3", 9), ("flash_attn", "flash", 8))


def best_attention(family: Family, device: str) -> str:
    """The fastest that is installed, runs on the card and takes what the model gives it; else torch's own choice."""
    # The others mask their prompts, which these kernels refuse.
    if not device.startswith("cuda") or not family.name.startswith("wan"):
        return DEFAULT_ATTENTION
    generation = generation_of(device)
    for package, name, first in _FASTER:
        if generation >= first and find_spec(package) is not None:
            return name
    return DEFAULT_ATTENTION


def generation_of(device: str) -> int:
    """8 = Ampere and Ada, 9 = Hopper, 10 = Blackwell."""
    import torch

    return torch.cuda.get_device_capability(device)[0]
