"""How starts are measured, and variants looked at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.settings.group import Group
from tasks.settings.tail import StepsOfTail


class InflectionSettings(Group):
    """How `headstart inflection` looks for the best start step."""

    pairs: int = Field(8, ge=1, description="rows of the sheet to measure, spread over its identities")
    start_steps: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="start steps to try; null = all, or every second where there are more than 12"
    )
    tails: tuple[StepsOfTail, ...] = Field(("exact", 1, 2, 3), min_length=1, description="tails to try at each")
    starts: tuple[Literal["snapshot", "line"], ...] = Field(
        ("snapshot", "line"), min_length=1, description="ways to start; `line` is tried with re-spaced tails"
    )
    guidances: tuple[Annotated[float, Field(ge=1)], ...] | None = Field(
        None,
        description="guidance of variants to try, with re-spaced tails, beside that of full runs; null = what the model names for variants, or five eighths of it",
    )
    max_forwards: int = Field(
        1000,
        ge=10,
        description="forwards of the model that a pair may cost; fewer start steps are tried where it would be more",
    )
    follow: float = Field(
        0.9,
        gt=0,
        le=1,
        description="share of pairs that must follow their prompt, as the model sees it",
    )
    detail: float = Field(
        0.875, gt=0, le=1, description="share of what a full run shows that a variant must have at every scale"
    )
    force: bool = Field(False, description="keep the answer for `auto` even from fewer than 5 pairs")


class CalibrationSettings(Group):
    """How `headstart calibrate` measures the ratios of the cache `mag`."""

    rows: int = Field(3, ge=1, description="rows of the sheet to run in full, spread over its identities")


class GuardSettings(Group):
    """Looks at every variant: did it keep its identity, did it move away from the prior? `guard=on` turns it on."""

    enabled: bool = Field(False, description="compare every variant with its prior and mark doubtful ones")
    least_kept: float = Field(
        0.5,
        ge=-1,
        le=1,
        description="below this agreement of the first frame with the prior's, the identity counts as lost",
    )
    least_moved: float = Field(
        0.2,
        ge=0,
        description="below this distance from the prior, in units of its spread, a variant counts as not moved away",
    )
    retry_earlier: int = Field(
        0, ge=0, description="try a variant that did not move away once more, from so many steps earlier"
    )
