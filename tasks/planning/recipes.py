"""What decides a result, written down: the recipes of priors and variants. Keys are made from these, and only these.

Whatever is in here changes the key. Paths, hosts, threads, names and tags are not in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prior_engine.requests.cache import Cache
from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.identity import Identity
from tasks.planning.ways import Way
from tasks.settings import Settings

PRIOR_VERSION = 1
VARIANT_VERSION = 1


def cache_of(settings: Settings) -> Cache | None:
    """The engine's view of the step cache of variants."""
    accel = settings.accel
    return None if accel.cache == "none" else Cache(kind=accel.cache, options=accel.cache_options)


def prior_recipe(
    model: Mapping[str, Any], identity: Identity, conditioning: Conditioning, schedule: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides a prior."""
    return {
        "kind": "prior",
        "version": PRIOR_VERSION,
        "model": dict(model),
        "identity": identity.describe(),
        "conditioning": conditioning.describe(),
        "schedule": dict(schedule),
    }


def variant_recipe(
    settings: Settings,
    prior: Mapping[str, Any],
    parent_key: str,
    conditioning: Conditioning,
    way: Way,
    *,
    keeps: tuple[int, ...],
    cache: Cache | None,
) -> dict[str, Any]:
    """All that decides a variant. The parent's key stands for the whole way up to the snapshot.

    A full run has no parent: of the prior that it does without, its recipe names what the run shares with it.
    """
    begin: dict[str, Any] = (
        {name: prior[name] for name in ("model", "identity", "schedule")}
        if way.is_full
        else {"parent": parent_key, "start_step": way.start_step, "tail": way.tail, "history": settings.history}
    )
    recipe: dict[str, Any] = {
        "kind": "variant",
        "version": VARIANT_VERSION,
        **begin,
        "conditioning": conditioning.describe(),
        "video": {
            "fps": settings.fps,
            "quality": settings.video.quality,
            "pix_fmt": settings.video.pix_fmt,
        },
    }
    # What is left out at its default keeps older keys valid when a choice is added.
    if way.start != "snapshot":
        recipe["start"] = way.start
    if cache is not None:
        recipe["cache"] = cache.describe()
    if settings.guard.enabled and settings.guard.retry_earlier and not way.is_full:
        # Only a second try changes what comes out; a look alone does not.
        recipe["guard"] = {
            "least_kept": settings.guard.least_kept,
            "least_moved": settings.guard.least_moved,
            "retry_earlier": settings.guard.retry_earlier,
        }
    if keeps:
        recipe["keeps"] = list(keeps)
    return recipe
