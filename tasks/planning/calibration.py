"""Where a store keeps the ratios that `headstart calibrate` measured, and how the settings of a batch come by them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prior_store.errors import KeyNotFoundError
from tasks.planning.advice import name_of_measured
from tasks.planning.models.worn import worn

if TYPE_CHECKING:
    from prior_engine.requests.conditioning import Lora
    from prior_store import Store
    from tasks.settings import Settings

RECORD = "ratios.json"


def calibration_name(settings: Settings, model: Mapping[str, Any], loras: Sequence[Lora] = ()) -> str:
    """Where the ratios of a model with what it wears, a schedule and a guidance lie among the batches."""
    return name_of_measured("calibration", settings, model, loras)


def with_ratios(settings: Settings, store: Store, model: Mapping[str, Any]) -> Settings:
    """The settings with the ratios that the cache `mag` needs, where they name none and the store has them."""
    accel = settings.accel
    if accel.cache != "mag" or accel.cache_options.get("mag_ratios"):
        return settings
    try:
        record = json.loads(store.read_batch_file(calibration_name(settings, model, worn(settings)), RECORD))
    except KeyNotFoundError:
        return settings  # what is lacking is told by the plan
    options = {**accel.cache_options, "mag_ratios": record["ratios"]}
    return settings.model_copy(update={"accel": accel.model_copy(update={"cache_options": options})})
