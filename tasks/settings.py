"""The settings of a batch: one frozen tree, validated once at the door, read by every task.

YAML in conf/ chooses, this module defines. A key that stands here with no YAML has its default from here. Whatever
changes a result goes into a recipe through `tasks.planning.recipes`; everything else here never changes a key.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from prior_engine.requests.schedule import Grid, Schedule
from prior_engine.requests.steps import MOST_STEPS, Keep

# The engine's own `Tail`, in words that messages can be made from.
_Tail = Literal["exact"] | Annotated[int, Field(ge=1, le=MOST_STEPS)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class ModelSettings(_Group):
    """Which weights, and the size they were made for."""

    source: str = Field("demo", description="folder in diffusers layout, hub id or `demo` (embedded)")
    revision: str | None = Field(None, description="commit of a hub id; resolved and recorded when it is a branch name")
    pipeline: str | None = Field(None, description="pipeline class, when it is not the one that model_index.json names")
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto = bf16 on CUDA, fp32 elsewhere")
    offline: bool = Field(True, description="never ask a hub; a hub id must be in the local cache already")
    height: int = Field(480, gt=0, description="pixels, for rows that name no height")
    width: int = Field(832, gt=0, description="pixels, for rows that name no width")
    frames: int = Field(81, gt=0, description="frames, for rows that name no frames")
    guidance: float = Field(5.0, ge=0, description="guidance scale when neither row nor settings name one")
    fps: int = Field(16, gt=0, description="frames a second that the model was trained at")
    max_sequence_length: int | None = Field(
        None, gt=0, description="tokens of a prompt that the encoder takes; null = the family's own"
    )
    start_step: int | None = Field(None, ge=0, description="measured best start step of this model; what `auto` means")
    tail: _Tail | None = Field(None, description="measured best tail; what `auto` means")
    start: Literal["snapshot", "line"] = Field("snapshot", description="measured best way to start; what `auto` means")


class ScheduleSettings(_Group):
    """Everything that fixes the walk; the engine's own `Schedule` says what is allowed."""

    scheduler: str | None = Field(
        "FlowMatchEulerDiscreteScheduler", description="diffusers scheduler class; null = the model's own"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="further config of that class")
    grid: Grid = Field("wan", description="how sigmas are laid")
    num_inference_steps: int = Field(
        10, ge=2, le=1000, description="steps of a full run; an explicit grid has as many as it lists"
    )
    denoising_strength: float = Field(1.0, description="where the walk starts, before the shift")
    sigma_shift: float | None = Field(5.0, description="shift of the grid; null = the scheduler's own")
    sigmas: tuple[float, ...] | None = Field(None, description="explicit sigmas (grid: explicit)")
    timesteps: tuple[float, ...] | None = Field(
        None, description="explicit timesteps (grid: explicit), alone or beside sigmas where a model wants both"
    )

    @property
    def for_engine(self) -> Schedule:
        """The same, as the engine takes it."""
        return Schedule(**dict(self))

    @model_validator(mode="after")
    def _can_be_walked(self) -> Self:
        steps = self.for_engine.num_inference_steps
        if steps != self.num_inference_steps and "num_inference_steps" in self.model_fields_set:
            raise ValueError(
                f"{steps} steps are listed, and num_inference_steps is {self.num_inference_steps}; leave num_inference_steps out, or make them equal"
            )
        if steps < 2:
            raise ValueError("1 step is listed, and nothing could start from it; list at least 2")
        object.__setattr__(self, "num_inference_steps", steps)
        return self


class AccelSettings(_Group):
    """What makes runs quicker or smaller. Caches are for variants only; priors are recorded without."""

    cache: Literal["none", "first_block", "mag", "taylorseer", "pab"] = Field(
        "none", description="activation cache for variants"
    )
    cache_options: dict[str, Any] = Field(default_factory=dict, description="options of that cache")
    attention_backend: str | None = Field(None, description="diffusers attention backend; null = its default")
    deterministic: bool = Field(True, description="deterministic kernels, no autotuning")
    offload: Literal["none", "group"] = Field(
        "none", description="group = weights wait in the machine's memory and come to the device in groups"
    )
    quantization: Literal["float8_e4m3fn", "float8_e5m2"] | None = Field(
        None, description="keep the weights at 8 bits; priors too, and it changes results"
    )
    vae_tiling: bool = Field(False, description="decode in tiles: less memory, and it changes results")


class PriorSettings(_Group):
    """What a prior keeps, and how long others wait for it."""

    keep: str | tuple[int, ...] = Field(
        "all",
        description="`all`, `from:K`, or a list of steps whose snapshots are kept; those that rows start from always are",
    )
    guidance: float | None = Field(None, ge=0, description="guidance of priors; null = as for variants")
    lease_s: float = Field(60.0, gt=0, description="a claim whose holder gave no sign for so long may be taken over")
    wait_s: float | None = Field(
        None, gt=0, description="how long to wait for another process that makes the same prior; null = for ever"
    )

    @field_validator("keep")
    @classmethod
    def _known_way_to_keep(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        Keep(value)
        return value


class SheetSettings(_Group):
    """How a prompt sheet is read, and what it may reach."""

    path: str | None = Field(
        None, description="file or URL of the sheet, `-` for standard input, `demo` for the one that ships"
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "yaml", "parquet"] = Field("auto", description="auto = by file name")
    identities: str | None = Field(None, description="a second file with the identities' own columns")
    allow_roots: tuple[str, ...] = Field(
        (), description="folders or URL prefixes that images may come from, beside the sheet's own folder"
    )
    allow_http: bool = Field(False, description="allow http(s) images")
    max_image_pixels: int = Field(40_000_000, gt=0, description="larger images are refused before they are decoded")
    max_rows: int = Field(100_000, gt=0, description="more rows than this after expansion are refused")
    ignore_unknown: bool = Field(False, description="leave out columns that a sheet does not know, with a note")


class StoreSettings(_Group):
    """Where priors, variants and the manifest lie."""

    url: str = Field("headstart-store", description="folder or fsspec URL (s3://bucket/prefix, memory://name)")
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options (endpoint, profile); secrets by environment only"
    )
    verify_hashes: bool = Field(True, description="check sha256 of every file that is read")

    @field_validator("storage_options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        # The resolved tree is kept with every batch, so a secret in here would end up on disk.
        for name in value:
            if re.search(r"secret|token|password|^key$", name, re.IGNORECASE):
                raise ValueError(
                    f"storage option {name!r} looks like a secret; give it by environment (AWS_* variables, a profile), not by config"
                )
        return value


class RunnerSettings(_Group):
    """Devices, workers, chunks."""

    kind: Literal["local", "ray", "dask"] = Field("local", description="where tasks run; ray and dask need their extra")
    devices: str | tuple[str, ...] = Field("auto", description="`auto`, or a list such as [cuda:0,cuda:1] or [cpu]")
    workers: int | None = Field(
        None, ge=1, description="threads; null = devices + 2, so that decoding overlaps the next walk"
    )
    chunk_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="variants in one task run; auto = at most 500 task runs a batch"
    )
    address: str | None = Field(None, description="address of a Ray or Dask cluster; null = a local one")


class VideoSettings(_Group):
    """How frames become files."""

    fps: int | None = Field(None, gt=0, description="null = the model's")
    quality: float = Field(8, ge=0, le=10, description="0 smallest, 10 best")
    pix_fmt: str = Field("yuv420p", description="ffmpeg pixel format; yuv420p plays everywhere")


class ServerSettings(_Group):
    """The Prefect server."""

    mode: Literal["local", "remote", "none"] = Field(
        "local", description="local = started here when none is there; remote = PREFECT_API_URL; none = no UI"
    )
    port: int = Field(4200, gt=0, lt=65536, description="first port to try for the local server")
    database: str | None = Field(
        None, description="database URL of the local server; null = SQLite in the state folder"
    )


class InflectionSettings(_Group):
    """How `headstart inflection` looks for the best start step."""

    pairs: int = Field(8, ge=1, description="rows of the sheet to measure, spread over its identities")
    start_steps: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="start steps to try; null = all, or every second where there are more than 12"
    )
    tails: tuple[_Tail, ...] = Field(("exact", 1, 2, 3), min_length=1, description="tails to try at each")
    starts: tuple[Literal["snapshot", "line"], ...] = Field(
        ("snapshot", "line"), min_length=1, description="ways to start; `line` is tried with re-spaced tails"
    )
    follow: float = Field(
        0.9,
        gt=0,
        le=1,
        description="share of pairs in which the model has to see the row's prompt, as in a full run, rather than the prior's",
    )
    detail: float = Field(0.8, gt=0, le=1, description="share of a full run's fine detail that a variant has to have")
    force: bool = Field(False, description="keep the answer for `auto` even when fewer than 5 pairs were measured")


class GuardSettings(_Group):
    """Looks at every variant: did it keep its identity, did it move away from the prior? `guard=on` turns it on."""

    enabled: bool = Field(False, description="measure every variant against its prior and mark doubtful ones")
    least_kept: float = Field(
        0.5, ge=-1, le=1, description="less agreement of the first moment with the prior's is a lost identity"
    )
    least_moved: float = Field(
        0.2, ge=0, description="less distance from the prior, in units of its spread, is not moving away"
    )
    retry_earlier: int = Field(
        0, ge=0, description="redo a variant that did not move away from so many steps earlier, once"
    )


class Settings(_Group):
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
    guard: GuardSettings = GuardSettings()

    start_step: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto", description="the snapshot that variants start from"
    )
    tail: Literal["auto"] | _Tail = Field("auto", description="`exact`, or so many re-spaced steps")
    start: Literal["auto", "snapshot", "line"] = Field(
        "auto",
        description="`snapshot` = the prior's own state after that step; `line` = as noisy a place on the straight line between its last latents and its first noise",
    )
    history: Literal["keep", "fresh"] = Field(
        "keep", description="multistep solvers: keep the prior's history or start fresh"
    )
    guidance: float | None = Field(
        None, ge=0, description="guidance scale, for rows that name none; null = model.guidance"
    )
    negative_prompt: str | None = Field(None, description="for rows that name none")
    seed: int = Field(0, ge=0, description="for rows that name no seed")
    retries: int = Field(2, ge=0, le=20, description="further tries of a row after an error that may pass")
    max_failures: str | int | None = Field(
        None, description="failed rows after which the batch ends early: a number or `5%`"
    )
    batch: str | None = Field(None, description="name of the batch; null = sheet name and time")
    tags: tuple[str, ...] = Field((), description="kept with every row of the batch")

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
        if self.accel.cache_options and self.accel.cache == "none":
            raise ValueError(
                f"accel.cache_options={self.accel.cache_options} needs accel.cache; choose a cache or leave the options out"
            )
        if self.runner.kind != "local" and self.server.mode == "none":
            raise ValueError(
                f"runner.kind={self.runner.kind} works through Prefect; leave server=none out, or use runner.kind=local"
            )
        if self.runner.kind == "local" and self.runner.address is not None:
            raise ValueError(
                f"runner.address={self.runner.address!r} needs runner.kind=ray or dask; set one or leave it out"
            )
        if self.server.database is not None and self.server.mode != "local":
            raise ValueError(
                f"server.database is for server.mode=local, and the mode is {self.server.mode}; leave it out"
            )
        return self

    @property
    def fps(self) -> int:
        """Frames a second of every video of the batch."""
        return self.video.fps or self.model.fps

    def failure_limit(self, num_rows: int) -> int | None:
        """How many rows may fail before the batch ends early; None = all of them."""
        if self.max_failures is None:
            return None
        text = str(self.max_failures)
        return int(float(text[:-1]) / 100 * num_rows) if text.endswith("%") else int(text)


def state_dir() -> str:
    """Where this user's Headstart keeps what is not a result: server database, device locks."""
    home = os.environ.get("HEADSTART_HOME")
    if home:
        return home
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "headstart")  # noqa: PTH118, PTH111
