"""A look at every variant: did it keep its identity, did it move away from its prior? Cheap, on latents alone.

Both numbers compare with what the variant started from: how well its first moment agrees, and how far the whole lies from
it in units of its own spread. What they miss and what they mark wrongly is measured in docs/fidelity.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tasks.settings import GuardSettings

LOST = "lost its identity"
STUCK = "did not move away from its prior"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the guard saw."""

    kept: float
    moved: float
    mark: str | None
    started: int

    def as_plain(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def look(ours: Any, prior: Any, settings: GuardSettings, *, started: int) -> Look:
    """Compare final latents, batch x channels x (time x) height x width, with those of the prior."""
    a, b = ours.float().cpu(), prior.float().cpu()
    spread = float(b.std())
    moved = float((a - b).square().mean().sqrt()) / spread if spread else 0.0
    kept = _agreement(_first(a), _first(b))
    mark = LOST if kept < settings.least_kept else STUCK if moved < settings.least_moved else None
    return Look(kept=round(kept, 4), moved=round(moved, 4), mark=mark, started=started)


def earlier(found: Look, settings: GuardSettings) -> int | None:
    """The start step of a second try. Only for what is stuck: an identity that is lost is not found further from home."""
    if found.mark != STUCK or not settings.retry_earlier or found.started == 0:
        return None
    return max(0, found.started - settings.retry_earlier)


def _first(latents: Any) -> Any:
    """The first moment of a video; of a picture, all of it."""
    return latents[:, :, :1] if latents.ndim == 5 else latents


def _agreement(a: Any, b: Any) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(a.square().sum().sqrt() * b.square().sum().sqrt())
    return float((a * b).sum()) / size if size else 1.0
