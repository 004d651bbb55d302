"""Which step cache a resumed run may use, and where one would quietly harm results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.models.families import Family
from prior_engine.requests.steps import Tail

KINDS = ("first_block", "mag", "pab", "taylorseer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cache:
    """Which cache, and its options as diffusers calls them.

    Recorded priors never use one: a cached run has no state that could be stored.
    `mag` needs `mag_ratios`, one for each step of the full schedule; a resumed run gets the slice that is left.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RequestError(f"cache kind {self.kind!r} is not known; choose one of {sorted(KINDS)}")
        if self.kind == "mag" and not self.options.get("mag_ratios"):
            raise RequestError(
                "the cache 'mag' needs 'mag_ratios', one for each step; calibrate them for the model first"
            )

    def describe(self) -> dict[str, Any]:
        """The cache for recipes: it changes results."""
        return {"kind": self.kind, "options": dict(self.options)}


def check_cache(
    cache: Cache | None, family: Family, guidance: float | None, *, tail: Tail = "exact", keeps: bool = False
) -> None:
    """Refuse a cache that would quietly harm results of this family, or of such a run."""
    if cache is None:
        return
    if keeps:
        raise RequestError("a run with a cache cannot keep snapshots: a cache has no state that could be stored")
    if cache.kind == "mag" and tail != "exact":
        raise RequestError("the ratios of the cache 'mag' belong to the prior's own steps; use it with tail='exact'")
    check_kind(cache.kind, family, guidance)


def check_kind(kind: str, family: Family, guidance: float | None) -> None:
    """Refuse a kind of cache that this family does not bear."""
    reason = family.no_cache or (family.no_block_cache if kind in ("first_block", "mag") else None)
    strength = family.default_guidance if guidance is None else guidance
    if kind == "pab" and family.guides_in_two_calls and strength > 1:
        reason = f"at guidance {strength:g} it would give the unguided call the attention of the guided one"
    if reason is not None:
        raise UnsupportedError(f"the cache {kind!r} cannot be used with {family.name!r}: {reason}; leave it out")
