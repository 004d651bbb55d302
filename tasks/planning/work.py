"""The units of work that cross task boundaries: plain values, no tensors, no models, no open files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import Schedule
from tasks.planning.ways import Way
from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorWork:
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
class VariantWork:
    """One row to have: its recipe, and the snapshot that it starts from."""

    key: str
    row_id: str
    place: str
    name: str
    prior_key: str
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
    def start_step(self) -> int:
        """The step of the parent after which it starts."""
        return self.way.start_step

    @property
    def label(self) -> str:
        """How people call this row: `fox/turns-left k6`."""
        short = self.row_id.removeprefix(f"{self.name}-")
        way = "" if self.way.start == "snapshot" else " line"
        return f"{self.name}/{short} k{self.start_step}{way}" + (
            "" if self.way.tail == "exact" else f" in {self.steps}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """What became of a prior or a row. A failure is data: it is reported and can be run again."""

    kind: str
    key: str
    row_id: str
    identity: str
    status: str
    error: str | None = None
    transient: bool = False
    steps_run: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    doubt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchContext:
    """What every task of a batch needs to know. Small and plain, so that it can travel to another process."""

    batch: str
    settings: Settings
    tags: tuple[str, ...] = ()
