"""The whole tree: every group, and what stands beside them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tasks.settings.group import Group
from tasks.settings.judging import CalibrationSettings, GuardSettings, InflectionSettings
from tasks.settings.places import SheetSettings, StoreSettings
from tasks.settings.results import AccelSettings, ModelSettings, PriorSettings, ScheduleSettings, VideoSettings
from tasks.settings.running import RunnerSettings, ServerSettings
from tasks.settings.tail import StepsOfTail

# The largest that the manifest's column holds.
MAX_SEED = 2**63 - 1


class Settings(Group):
    """All settings of one batch."""

    model: ModelSettings = ModelSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    accel: AccelSettings = AccelSettings()
    prior: PriorSettings = PriorSettings()
    sheet: SheetSettings = SheetSettings()
    store: StoreSettings = StoreSettings()
    runner: RunnerSettings = RunnerSettings()
    video: VideoSettings = VideoSettings()
    server: ServerSettings = ServerSettings()
    inflection: InflectionSettings = InflectionSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    guard: GuardSettings = GuardSettings()

    start_step: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="the step after which variants start, counted from 0"
    )
    tail: Literal["auto"] | StepsOfTail = Field(
        "auto", description="`exact` = the rest of the prior's schedule; a number = so many re-spaced steps"
    )
    start: Literal["auto", "snapshot", "line"] = Field(
        "auto",
        description="`snapshot` = the prior's own state after that step; `line` = the point with the same sigma on the straight line between its last latents and its first noise",
    )
    history: Literal["keep", "fresh"] = Field(
        "keep", description="multistep solvers: keep the prior's history or start with a fresh one"
    )
    guidance: float | None = Field(
        None, ge=0, description="guidance scale, for rows that name none; null = model.guidance"
    )
    negative_prompt: str | None = Field(
        None, description="negative prompt of rows that name none; null = model.negative_prompt"
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="seed of rows that name none")
    retries: int = Field(
        2, ge=0, le=20, description="how often a row is tried again after an error that may pass (storage, network)"
    )
    max_failures: str | int | None = Field(
        None, description="end the batch early when more rows than this have failed: a number or `5%`"
    )
    batch: str | None = Field(
        None, description="name of the batch, continued if it is the same sheet's; null = sheet name and time"
    )
    tags: tuple[str, ...] = Field((), description="labels that every row of the batch gets")

    @field_validator("max_failures")
    @classmethod
    def _count_or_percent(cls, value: str | int | None) -> str | int | None:
        if value is not None and not re.fullmatch(r"\d+(\.\d+)?%|\d+", str(value)):
            raise ValueError(f"is {value!r}; give a number of rows (10) or a percentage (5%)")
        return value

    @field_validator("batch")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        # The name becomes a folder in the store: nothing in it may climb out.
        if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise ValueError(
                f"is {value!r}; use letters, digits, dot, dash and underscore, at most 100, starting with a letter or digit"
            )
        return value

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Settings:
        if self.server.database is not None and self.server.mode != "local":
            raise ValueError(
                f"server.database is for server.mode=local, and the mode is {self.server.mode}; leave it out"
            )
        return self

    @property
    def fps(self) -> int:
        """Frames a second of every video of the batch."""
        fps = self.video.fps or self.model.fps
        if fps is None:
            raise ValueError("model.fps is null and the model was not looked at; `settled` does that")
        return fps

    @property
    def negative(self) -> str:
        """The negative prompt of rows that name none, and of priors."""
        return (self.model.negative_prompt if self.negative_prompt is None else self.negative_prompt) or ""

    def failure_limit(self, num_rows: int) -> int | None:
        """How many rows may fail before the batch ends early; None = all of them."""
        if self.max_failures is None:
            return None
        text = str(self.max_failures)
        return int(float(text[:-1]) / 100 * num_rows) if text.endswith("%") else int(text)
