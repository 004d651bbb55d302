"""Guidance in one pass: what the pipeline asks for twice a step, told and untold, is computed once at twice the size."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from prior_engine.errors import EngineError

# What of a pass has a row for each sample, and is the same for both.
_SAME = ("hidden_states", "timestep", "encoder_hidden_states_image")


@contextlib.contextmanager
def in_one_pass(experts: Iterable[Any], arguments: Mapping[str, Any], *, wanted: bool) -> Iterator[None]:
    """Have every expert answer both passes of a step at the first, for one run of the pipeline."""
    negative = arguments.get("negative_prompt_embeds")
    # As the pipelines decide it: without guidance there is no second pass.
    if not wanted or negative is None or arguments["guidance_scale"] <= 1:
        yield
        return
    with contextlib.ExitStack() as stack:
        for expert in experts:
            stack.enter_context(_answering(expert, negative))
        yield


@contextlib.contextmanager
def _answering(expert: Any, negative: torch.Tensor) -> Iterator[None]:
    # Hooks (offloading, smaller weights) have put a function of their own there.
    hooked = vars(expert).get("forward")
    expert.forward = _Both(expert.forward, negative)
    try:
        yield
    finally:
        if hooked is None:
            del expert.forward
        else:
            expert.forward = hooked


class _Both:
    """A pass that keeps the second half of its answer until it is asked for."""

    def __init__(self, inner: Any, negative: torch.Tensor) -> None:
        self.inner, self.negative = inner, negative
        self.kept: torch.Tensor | None = None

    def __call__(self, **given: Any) -> tuple[torch.Tensor]:
        words = given["encoder_hidden_states"]
        untold = self.negative.to(words)
        if self.kept is not None:
            if not torch.equal(words, untold):
                raise EngineError(
                    "the pipeline asked for another pass than the unguided one, so merge_guidance cannot be used with it"
                )
            kept, self.kept = self.kept, None
            return (kept,)
        twice = {name: torch.cat([given[name], given[name]]) for name in _SAME if given.get(name) is not None}
        (both,) = self.inner(**{**given, **twice, "encoder_hidden_states": torch.cat([words, untold])})
        told, self.kept = both.chunk(2)
        return (told,)
