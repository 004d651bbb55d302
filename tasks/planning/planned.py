"""What a plan consists of: priors and variants as plain values that cross task boundaries, no tensors, no open files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import Schedule
from tasks.planning.ways import Way


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPrior:
    """One prior to have: made if the store lacks it."""

    key: str
    name: str
    identity: Identity
    conditioning: Conditioning
    schedule: Schedule
    recipe: Mapping[str, Any]
    needed_steps: tuple[int, ...]
    steps: int
    cached: bool
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedVariant:
    """One row to have: its recipe, and the snapshot that it starts from."""

    key: str
    row_id: str
    place: str
    name: str
    prior: PlannedPrior
    # What it starts from, priors or variants; nothing where it is a full run.
    parent_kind: str
    parent_key: str
    parent_row: str | None
    conditioning: Conditioning
    way: Way
    sigma: float | None
    steps: int
    recipe: Mapping[str, Any]
    kept_steps: tuple[int, ...]
    cached: bool
    tags: tuple[str, ...] = ()

    @property
    def prior_key(self) -> str:
        """The prior that it starts from, itself or through its parents."""
        return self.prior.key

    @property
    def start_step(self) -> int:
        """The step of the parent after which it starts."""
        return self.way.start_step

    @property
    def label(self) -> str:
        """How people call this row: `fox/turns-left k6`."""
        short = self.row_id.removeprefix(f"{self.name}-")
        if self.way.is_full:
            return f"{self.name}/{short} full"
        way = "" if self.way.start == "snapshot" else " line"
        return f"{self.name}/{short} k{self.start_step}{way}" + (
            "" if self.way.tail == "exact" else f" in {self.steps}"
        )
