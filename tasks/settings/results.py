"""What decides results: the model, the walk, what makes it quicker or smaller, what a prior keeps, and the video."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from prior_engine.requests.schedule import Grid, NoiseLayout, Schedule
from prior_engine.requests.steps import Keep
from tasks.settings.group import Group
from tasks.settings.loras import split_loras
from tasks.settings.tail import StepsOfTail

# Ways to keep weights in fewer bits.
Bits = Literal["float8_e4m3fn", "float8_e5m2", "int8", "int8_dynamic", "nf4"]


class LoraSettings(Group):
    """Weights that a model wears in every run."""

    path: str = Field(description="safetensors file on this machine")
    weight: float = Field(1.0, description="strength")
    expert: Literal["both", "high", "low"] = Field("both", description="which half of a two-expert model wears it")


class ModelSettings(Group):
    """Which weights, and the size they were made for."""

    source: str = Field(
        "demo", description="folder in diffusers layout, hub id, `modelscope:owner/name`, or `demo` (embedded)"
    )
    root: str | None = Field(
        None,
        description="folder of downloaded models (`owner/name/...`), looked into before a hub: for the source, parts and LoRAs; null = HEADSTART_MODELS, if that is set",
    )
    revision: str | None = Field(None, description="commit of a hub id; resolved and recorded when it is a branch name")
    pipeline: str | None = Field(None, description="pipeline class, if not the one in model_index.json")
    parts: dict[str, str | tuple[str, ...]] = Field(
        default_factory=dict,
        description="components whose weights lie elsewhere: `transformer: FILE`, a pattern or list of files under their makers' names, a GGUF, `owner/name:pattern` of a hub, or a component's folder",
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto = bf16 on CUDA, fp32 elsewhere")
    offline: bool = Field(True, description="never contact a hub; a hub id must already be in the local cache")
    loras: tuple[LoraSettings, ...] = Field(
        (),
        description="LoRAs that priors and variants wear alike, before those of a row: `path` or `path:0.8`, several with `;`, or a list of {path, weight, expert}",
    )
    height: int | None = Field(
        None, gt=0, description="pixels, for rows without a height; null = what its family is shown at"
    )
    width: int | None = Field(
        None, gt=0, description="pixels, for rows without a width; null = what its family is shown at"
    )
    frames: int | None = Field(
        None, gt=0, description="number of frames, for rows without one; null = as its family is shown"
    )
    guidance: float | None = Field(
        None,
        ge=0,
        description="guidance scale, if neither the row nor `guidance` sets one; null = as its family is told",
    )
    guidance_2: float | None = Field(
        None,
        ge=0,
        description="guidance of the second expert, where `model.guidance` is used; null = the same as of the first",
    )
    negative_prompt: str | None = Field(
        None,
        description="what its makers steer away from, if neither the row nor `negative_prompt` says; null = nothing",
    )
    fps: int | None = Field(
        None, gt=0, description="frames per second that the model was trained at; null = as its family was"
    )
    max_sequence_length: int | None = Field(
        None, gt=0, description="longest prompt in tokens; null = as the model family has it"
    )
    start_sigma: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="best start measured for this model, as the noise that is left there: it means the same on every schedule; `start_step=auto` takes the nearest step",
    )
    tail: StepsOfTail | None = Field(None, description="best tail measured for it; used by `tail=auto`")
    start: Literal["snapshot", "line"] = Field(
        "snapshot", description="best start measured for it; used by `start=auto`"
    )
    variant_guidance: float | None = Field(
        None,
        ge=0,
        description="guidance of variants, if neither the row nor `guidance` sets one; null = as full runs and priors",
    )

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and frames of rows that name none."""
        if self.height is None or self.width is None or self.frames is None:
            raise ValueError("the size is left to the model, and the model was not looked at; `settled` does that")
        return self.height, self.width, self.frames

    @field_validator("loras", mode="before")
    @classmethod
    def _as_in_a_sheet(cls, value: object) -> object:
        """Text is read as the column `lora` of a sheet is."""
        parts = value if isinstance(value, list | tuple) else [value]
        read: list[object] = []
        for part in parts:
            if not isinstance(part, str):
                read.append(part)
                continue
            read += [{"path": path, "weight": weight} for path, weight in split_loras(part)]
        return read


class ScheduleSettings(Group):
    """Everything that fixes the walk; the engine's own `Schedule` says what is allowed."""

    scheduler: str | None = Field(
        "FlowMatchEulerDiscreteScheduler", description="diffusers scheduler class; null = the model's own"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="further configuration of that class")
    grid: Grid = Field("wan", description="how sigmas are spaced")
    num_inference_steps: int = Field(
        10, ge=2, le=1000, description="steps of a full run; with an explicit grid, the number that it lists"
    )
    denoising_strength: float = Field(1.0, description="where the run starts, before the shift")
    sigma_shift: float | None = Field(5.0, description="shift of the grid; null = the scheduler's own")
    sigmas: tuple[float, ...] | None = Field(None, description="explicit sigmas (grid: explicit)")
    timesteps: tuple[float, ...] | None = Field(
        None, description="explicit timesteps (grid: explicit), alone or with sigmas for models that need both"
    )
    noise_layout: NoiseLayout = Field(
        "bcthw",
        description="order in which a seed's noise fills the latents: `bcthw` (channels before time) as diffusers draws it, `btchw` as FastVideo does; for Wan and HunyuanVideo",
    )
    guidance: float | None = Field(
        None,
        ge=0,
        description="the guidance that weights for this walk were distilled with: it is used, and any other is refused; null = free",
    )
    tails: Literal["any", "exact"] = Field(
        "any", description="`exact` = weights for this walk know its own steps only, so no tail may be re-spaced"
    )

    @property
    def for_engine(self) -> Schedule:
        """The same, as the engine takes it."""
        return Schedule(**{name: value for name, value in self if name not in {"guidance", "tails"}})

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


class AccelSettings(Group):
    """What makes runs quicker or smaller. Caches are for variants only; priors are recorded without."""

    cache: Literal["none", "first_block", "mag", "taylorseer", "pab"] = Field(
        "none", description="activation cache for variants"
    )
    cache_options: dict[str, Any] = Field(default_factory=dict, description="options of that cache")
    attention_backend: str | None = Field(
        None,
        description="diffusers attention backend; auto = the fastest exact one that is installed for this card and model; null = torch's own",
    )
    deterministic: bool = Field(True, description="deterministic kernels, no autotuning")
    budget: float | None = Field(
        None,
        gt=0,
        description="GiB of device memory that a run may take: offload, tiles and weights in 8 bits are added, in this order, until it fits by the books; null = as they are set",
    )
    offload: Literal["none", "group"] = Field(
        "none",
        description="group = weights of transformers and encoders stay in main memory and move to the device as they are needed",
    )
    quantization: Bits | None = Field(
        None,
        description="keep the transformers' weights in fewer bits, also for priors; changes results: float8 = plain casts; `int8`, and `int8_dynamic`, which computes in 8 bits too, by torchao; `nf4` = 4 bits by bitsandbytes",
    )
    text_quantization: Bits | None = Field(
        None,
        description="the same for text encoders; their tables of words and what their makers want exact keep their bits",
    )
    vae_tiling: bool = Field(False, description="decode in tiles: less memory; changes results")
    compiled: bool = Field(
        False,
        description="compile the transformer's blocks on first use, which takes a minute or so: quicker steps; changes results",
    )
    merge_guidance: bool = Field(
        False,
        description="the guided and the unguided pass of a step as one of twice the size: quicker where one does not fill the device, more memory; changes results",
    )

    @model_validator(mode="after")
    def _go_together(self) -> AccelSettings:
        if self.cache_options and self.cache == "none":
            raise ValueError(
                f"accel.cache_options={self.cache_options} needs accel.cache; choose a cache or leave the options out"
            )
        if self.merge_guidance and self.cache != "none":
            raise ValueError(
                f"accel.cache={self.cache} would not tell the two passes of accel.merge_guidance apart; leave one of them out"
            )
        moves = [name for name in ("offload", "quantization", "budget") if getattr(self, name) not in (None, "none")]
        if self.compiled and moves:
            raise ValueError(
                f"accel.compiled cannot be used with accel.{moves[0]}={getattr(self, moves[0])}, which steps in before every "
                "layer; leave one of them out"
            )
        return self


class PriorSettings(Group):
    """Whether there is a prior, what it keeps, and how long others wait for it."""

    use: Literal["on", "off", "auto"] = Field(
        "on",
        description="`on` = start variants from priors; `off` = full runs; `auto` = full runs for identities where they take fewer steps",
    )
    keep: str | tuple[int, ...] = Field(
        "all",
        description="steps whose snapshots are kept: `all`, `from:K` or a list; those that rows start from are always kept",
    )
    guidance: float | None = Field(None, ge=0, description="guidance of priors; null = the same as variants")
    lease_s: float = Field(
        60.0, gt=0, description="seconds without a sign of life after which a claim may be taken over"
    )
    wait_s: float | None = Field(
        None, gt=0, description="seconds to wait for another process that makes the same prior or row; null = for ever"
    )

    @field_validator("keep")
    @classmethod
    def _known_way_to_keep(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        Keep(value)
        return value


class VideoSettings(Group):
    """How frames become files."""

    fps: int | None = Field(None, gt=0, description="null = the model's")
    quality: float = Field(8, ge=0, le=10, description="0 smallest, 10 best")
    pix_fmt: str = Field("yuv420p", description="ffmpeg pixel format; yuv420p plays everywhere")
