"""What a study of the inflection found, and where a store keeps it: all that a plan needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prior_engine.requests.steps import Tail
from prior_store import recipe_key
from prior_store.errors import KeyNotFoundError

if TYPE_CHECKING:
    from prior_engine.requests.conditioning import Lora
    from prior_store import Store
    from tasks.settings import Settings

RECORD = "inflection.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to use, or why nothing is recommended."""

    start_step: int | None
    tail: Tail | None
    steps: int | None
    # None where too few pairs were measured to say.
    certainty: float | None
    start_steps: tuple[int, int] | None
    pays: bool
    why: str
    start: Literal["snapshot", "line"] = "snapshot"


def guidance_of(settings: Settings, *, full: bool = False) -> float:
    """The guidance of rows that name none: as variants, or as full runs and priors."""
    model, fixed = settings.model, settings.schedule.guidance
    own = None if full else model.variant_guidance
    # Weights that were distilled with one guidance know no other, whatever was found best for the model as it was.
    return next(value for value in (settings.guidance, fixed, own, model.guidance) if value is not None)


def second_guidance(settings: Settings, guidance: float | None) -> float | None:
    """What the second expert is told: the pair of the model's settings belongs together, and any other number is for both."""
    return settings.model.guidance_2 if guidance == settings.model.guidance else None


def study_name(
    model: Mapping[str, Any], schedule: Mapping[str, Any], guidance: float, loras: Sequence[Lora] = ()
) -> str:
    """Where the study of a model with what it wears, a schedule and a guidance lies among the batches."""
    recipe = {"kind": "inflection", "model": dict(model), "schedule": dict(schedule), "guidance": guidance}
    if loras:
        recipe["loras"] = [lora.describe() for lora in loras]
    key = recipe_key(recipe)
    return f"inflection-{key[:20]}"


def measured_start(store: Store, name: str) -> Advice | None:
    """What an earlier study found, if there was one."""
    try:
        advice = json.loads(store.read_batch_file(name, RECORD))["advice"]
    except KeyNotFoundError:
        return None
    return Advice(**advice | {"start_steps": tuple(advice["start_steps"]) if advice["start_steps"] else None})
