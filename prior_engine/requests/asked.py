"""One request of the engine: an identity, and what each sample of a batch is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from prior_engine.errors import RequestError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """An identity, what each sample is told, and how all are walked."""

    identity: Identity
    told: Sequence[Conditioning]
    schedule: Schedule


def filled_up(info: ModelInfo, conditionings: Sequence[Conditioning], batch_size: int) -> list[Conditioning]:
    """The conditionings, the last one repeated until the batch is full; refused where a batch cannot be."""
    if not 1 <= len(conditionings) <= batch_size:
        raise RequestError(f"{len(conditionings)} variants do not fit a batch of {batch_size}; give 1 to {batch_size}")
    reason = info.family.single_batch
    if batch_size > 1 and reason is not None:
        raise RequestError(f"the family {info.family.name!r} runs one at a time, for {reason}; set batch_size=1")
    shared = {(one.guidance, one.guidance_2, one.loras, one.max_sequence_length) for one in conditionings}
    if len(shared) > 1:
        raise RequestError(
            "the variants of one batch differ in guidance, LoRA weights or prompt length; batch them apart"
        )
    return [*conditionings, *[conditionings[-1]] * (batch_size - len(conditionings))]
