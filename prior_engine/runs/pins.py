"""What must match between a prior and what goes on from it."""

import math
from collections.abc import Mapping
from typing import Any

from prior_engine.errors import PinMismatchError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import Schedule
from prior_engine.runs.snapshot import Snapshot


def pins_of(info: ModelInfo, identity: Identity, schedule: Schedule, scheduler: Any) -> dict[str, Any]:
    """Everything that must match between a prior and its variants, flat and JSON-able."""
    config = {name: value for name, value in scheduler.config.items() if not name.startswith("_")}
    asked = schedule.describe()
    pins: dict[str, Any] = {
        "schedule.scheduler": type(scheduler).__name__,
        "schedule.config": _plain(config),
        "schedule.grid": asked["grid"],
        "schedule.num_inference_steps": asked["num_inference_steps"],
        "schedule.denoising_strength": asked["denoising_strength"],
        "schedule.sigma_shift": asked["sigma_shift"],
        "schedule.sigmas": asked["sigmas"],
        "schedule.timesteps": asked["timesteps"],
    }
    if "noise_layout" in asked:
        pins["schedule.noise_layout"] = asked["noise_layout"]
    pins |= {f"model.{name}": value for name, value in info.describe().items()}
    pins |= {f"identity.{name}": value for name, value in identity.describe().items()}
    return pins


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    plain = value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else repr(value)


def check_pins(was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse another schedule, size, model or identity, with every field that differs and both its values."""
    absent = "nothing"
    names = [*was, *(name for name in now if name not in was)]
    differing = {
        name: (was.get(name, absent), now.get(name, absent))
        for name in names
        if was.get(name, absent) != now.get(name, absent)
    }
    if differing:
        raise PinMismatchError(differing)


def check_same_told(broken: Snapshot, now: Conditioning) -> None:
    """A run that broke off goes on as it was told; told otherwise it would be a variant, and nobody's prior."""
    was = dict(broken.told[0]) if len(broken.told) == 1 else {}
    check_pins(*({f"conditioning.{name}": value for name, value in told.items()} for told in (was, now.describe())))
