"""The only module that seeds: noise comes from a CPU generator per sample, whatever device does the work."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from prior_engine.requests.schedule import NoiseLayout


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


@contextlib.contextmanager
def drawn_as(layout: NoiseLayout, *drawing: tuple[Any, str]) -> Iterator[None]:
    """Have what the named methods draw be drawn in `layout`; the first noise and all later noise alike."""
    if layout == "bcthw":
        yield
        return
    before = [(owner, name, vars(owner).get(name)) for owner, name in drawing]
    for owner, name in drawing:
        setattr(owner, name, _by_time(getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, own in before:
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)


def _by_time(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def drawing(*args: Any, **kwargs: Any) -> Any:
        with _TimeBeforeChannels():
            return plain(*args, **kwargs)

    return drawing


class _TimeBeforeChannels(TorchFunctionMode):
    """Draws noise for batch, channels, time, height, width with time before channels. For this thread, while it is entered."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.randn and len(args) == 1 and len(args[0]) == 5 and given.get("generator") is not None:
            batch, channels, time, height, width = args[0]
            drawn: torch.Tensor = func((batch, time, channels, height, width), **given)
            return drawn.transpose(1, 2).contiguous()
        return func(*args, **given)
