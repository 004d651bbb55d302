"""What a plan will take, from what this model took before: time and room. Says when it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from tasks.planning.plan import Plan

if TYPE_CHECKING:
    from prior_store import Store

_COLUMNS = ["kind", "steps_run", "denoise_s", "decode_s", "write_s", "bytes", "width", "height", "frames", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds on one device, and bytes; None where nothing is known."""

    seconds: float | None
    bytes: int | None
    from_rows: int

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"seconds": self.seconds, "bytes": self.bytes, "from_rows": self.from_rows}


def estimate(plan: Plan, store: Store) -> Estimate:
    """Look at past rows of the same model and size."""
    import pyarrow.compute as pc

    if not plan.variants_to_do:
        return Estimate(seconds=0.0, bytes=0, from_rows=0)
    identity = plan.priors[0].identity
    same = (
        (pc.field("model_fingerprint") == plan.model["fingerprint"])
        & (pc.field("status") == "done")
        & (pc.field("width") == identity.width)
        & (pc.field("height") == identity.height)
        & (pc.field("frames") == identity.frames)
    )
    rows = store.manifest(same, _COLUMNS, past_damage=True).to_pylist()
    timed = [row for row in rows if row["steps_run"] and row["denoise_s"] is not None]
    if not timed:
        return Estimate(seconds=None, bytes=_guessed_bytes(plan), from_rows=0)
    a_step = median(row["denoise_s"] / row["steps_run"] for row in timed)
    # Decoding and writing run beside the next walk, so they count only where they are the longer part.
    rest = median((row["decode_s"] or 0.0) + (row["write_s"] or 0.0) for row in timed)
    works = [plan.full_steps] * len(plan.priors_to_do) + [variant.steps for variant in plan.variants_to_do]
    seconds = sum(max(steps * a_step, rest) for steps in works) + rest
    sizes = {kind: _middle([row["bytes"] for row in rows if row["kind"] == kind]) for kind in ("priors", "variants")}
    guessed = _guessed_bytes(plan)
    known = sizes["variants"] is not None and (sizes["priors"] is not None or not plan.priors_to_do)
    room = len(plan.priors_to_do) * (sizes["priors"] or 0) + len(plan.variants_to_do) * (sizes["variants"] or 0)
    return Estimate(seconds=round(seconds, 1), bytes=room if known else guessed, from_rows=len(timed))


def _middle(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return int(median(known)) if known else None


def _guessed_bytes(plan: Plan) -> int:
    """Room by arithmetic: latents of 16 channels, 8x in space and 4x in time, as most video models have them."""
    width_of: Mapping[str, int] = {"float32": 4}
    total = 0
    keys = {prior.key: prior.identity for prior in plan.priors}
    size = width_of.get(str(plan.model["dtype"]), 2)
    for prior in plan.priors_to_do:
        total += plan.full_steps * _latent_bytes(prior.identity, size)
    for variant in plan.variants_to_do:
        total += _latent_bytes(keys[variant.prior_key], size)
    return total


def _latent_bytes(identity: Any, size: int) -> int:
    frames = (identity.frames - 1) // 4 + 1
    return int(16 * frames * (identity.height // 8) * (identity.width // 8) * size)
