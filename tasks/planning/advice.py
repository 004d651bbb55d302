"""What a study of the inflection found, and where a store keeps it: all that a plan needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    # Of variants; None = as full runs.
    guidance: float | None = None


def guidance_of(settings: Settings, measured: Advice | None = None, *, full: bool = False) -> float:
    """The guidance of rows that name none: as variants, or as full runs and priors."""
    model, fixed = settings.model, settings.schedule.guidance
    found = None if measured is None or measured.start_step is None else measured
    own = None if full else model.variant_guidance if found is None else found.guidance
    # Weights that were distilled with one guidance know no other, whatever was found best for the model as it was.
    known = (value for value in (settings.guidance, fixed, own, model.guidance) if value is not None)
    guidance = next(known, None)
    if guidance is None:
        raise ValueError("model.guidance is null and the model was not looked at; `settled` does that")
    return guidance


def is_guidance_free(settings: Settings) -> bool:
    """Whether variants may be told with another guidance than full runs."""
    return settings.guidance is None and settings.schedule.guidance is None


def second_guidance(settings: Settings, guidance: float | None) -> float | None:
    """What the second expert is told: the pair of the model's settings belongs together, and any other number is for both."""
    return settings.model.guidance_2 if guidance == settings.model.guidance else None


def study_name(settings: Settings, model: Mapping[str, Any], loras: Sequence[Lora] = ()) -> str:
    """Where the study of a model with what it wears, a schedule and a guidance lies among the batches.

    Where no guidance is asked for, that of variants is looked for as well, and the study is of that of full runs.
    """
    more = {"variants": "any guidance"} if is_guidance_free(settings) else {}
    return name_of_measured("inflection", settings, model, loras, **more)


def name_of_measured(
    kind: str, settings: Settings, model: Mapping[str, Any], loras: Sequence[Lora], **more: str
) -> str:
    """The folder of what was measured of a model with what it wears, a schedule and the guidance of full runs."""
    recipe = {
        "kind": kind,
        "model": dict(model),
        "schedule": settings.schedule.for_engine.describe(),
        "guidance": guidance_of(settings, full=True),
        **more,
    }
    if loras:
        recipe["loras"] = [lora.describe() for lora in loras]
    return f"{kind}-{recipe_key(recipe)[:20]}"


def measured_start(
    store: Store, settings: Settings, model: Mapping[str, Any], loras: Sequence[Lora] = ()
) -> Advice | None:
    """What an earlier study found, if there was one."""
    found = _kept(store, study_name(settings, model, loras))
    if found is not None or not is_guidance_free(settings):
        return found
    # Earlier studies were of one guidance of variants.
    guidance = guidance_of(settings)
    found = _kept(store, study_name(settings.model_copy(update={"guidance": guidance}), model, loras))
    return None if found is None else replace(found, guidance=guidance)


def _kept(store: Store, name: str) -> Advice | None:
    try:
        advice = json.loads(store.read_batch_file(name, RECORD))["advice"]
    except KeyNotFoundError:
        return None
    return Advice(**advice | {"start_steps": tuple(advice["start_steps"]) if advice["start_steps"] else None})
