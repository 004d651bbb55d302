"""The one table of what is supported, what is exact, and what is refused and why. Needs neither torch nor diffusers."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One kind of model: what goes in, what its text embeddings are called, how its guidance is told."""

    name: str
    pipeline: str
    label: str
    media: str = "video"
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    embeds: tuple[str, ...] = ("prompt_embeds",)
    negative: bool = True
    guidance: str = "guidance_scale"
    default_guidance: float = 5.0
    default_length: int = 512
    # What its makers show it at, and how many frames.
    height: int = 480
    width: int = 832
    frames: int = 81
    # The one whose tokens that length counts.
    tokenizer: str = "tokenizer"
    fps: int = 16
    # Fixed by the pipeline's own checks; read from the VAE's config where they are None.
    size_multiple: int | None = None
    frame_multiple: int | None = None
    # Wan's prompts are mended before they are encoded; the others take them as they are.
    cleans_prompt: bool = False
    # The pipeline itself cuts the schedule by its strength, and takes its frames from the input video.
    trims_strength: bool = False
    # The pipeline hands its own sigmas to the scheduler, which must be able to take them.
    gives_sigmas: bool = False
    streams_decode: bool = False
    vae_in_float32: bool = False
    # Why no step cache can be used, or none that skips blocks.
    no_cache: str | None = None
    no_block_cache: str | None = None
    # The guided and the unguided prediction are two calls of the model, not one call with two samples.
    guides_in_two_calls: bool = False
    # The two calls may be one of twice the size.
    merges_guidance: bool = False
    # Latents are batch, channels, time, height, width from the first noise on, so noise may be drawn in another order.
    latents_are_bcthw: bool = False
    single_batch: str | None = None
    notes: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A pipeline or solver that cannot be resumed exactly, and why."""

    name: str
    reason: str


def _wan(name: str, pipeline: str, label: str, **more: Any) -> Family:
    return Family(
        name=name,
        pipeline=pipeline,
        label=label,
        cleans_prompt=True,
        guides_in_two_calls=True,
        streams_decode=True,
        vae_in_float32=True,
        latents_are_bcthw=True,
        **more,
    )


_T5_WITH_MASK = ("prompt_embeds", "prompt_attention_mask")

FAMILIES: tuple[Family, ...] = (
    _wan(
        "wan-t2v",
        "WanPipeline",
        "Wan 2.1 and 2.2 text to video",
        merges_guidance=True,
        notes="two experts and TI2V-5B (expanded timesteps) included",
    ),
    _wan(
        "wan-i2v",
        "WanImageToVideoPipeline",
        "Wan 2.1 and 2.2 image to video",
        merges_guidance=True,
        takes=frozenset({"image", "last_image"}),
        needs=frozenset({"image"}),
        notes="first and last frame, two experts and TI2V-5B included",
    ),
    _wan(
        "wan-v2v",
        "WanVideoToVideoPipeline",
        "Wan 2.1 video to video",
        merges_guidance=True,
        takes=frozenset({"video"}),
        needs=frozenset({"video"}),
        trims_strength=True,
        no_cache="its pipeline does not tell caches the conditional from the unconditional call, and they would mix the two",
        notes="strength as diffusers means it with grid 'diffusers', as the reference means it with grid 'wan'",
    ),
    _wan(
        "wan-vace",
        "WanVACEPipeline",
        "Wan VACE",
        takes=frozenset({"video", "mask", "references", "control_scale"}),
        single_batch="its pipeline makes one video at a time",
        no_block_cache="its control hints are added between the blocks, and a cache that skips blocks would add them twice",
        notes="reference frames stay in the latents until they are decoded",
    ),
    Family(
        name="ltx",
        pipeline="LTXPipeline",
        label="LTX-Video text to video",
        embeds=_T5_WITH_MASK,
        default_guidance=3.0,
        default_length=128,
        width=704,
        frames=161,
        fps=25,
        size_multiple=32,
        frame_multiple=8,
        gives_sigmas=True,
    ),
    Family(
        name="ltx-i2v",
        pipeline="LTXImageToVideoPipeline",
        label="LTX-Video image to video",
        takes=frozenset({"image"}),
        needs=frozenset({"image"}),
        embeds=_T5_WITH_MASK,
        default_guidance=3.0,
        default_length=128,
        width=704,
        frames=161,
        fps=25,
        size_multiple=32,
        frame_multiple=8,
        gives_sigmas=True,
        notes="its first frame is put back after every step, so whole latents are recorded",
    ),
    Family(
        name="hunyuan-video",
        pipeline="HunyuanVideoPipeline",
        latents_are_bcthw=True,
        label="HunyuanVideo text to video",
        embeds=("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask"),
        negative=False,
        default_guidance=6.0,
        default_length=256,
        height=720,
        width=1280,
        frames=129,
        fps=24,
        size_multiple=16,
        frame_multiple=4,
        gives_sigmas=True,
    ),
    Family(
        name="cogvideox",
        pipeline="CogVideoXPipeline",
        label="CogVideoX text to video",
        default_guidance=6.0,
        default_length=226,
        width=720,
        frames=49,
        fps=8,
        size_multiple=16,
        frame_multiple=4,
        notes="with CogVideoXDDIMScheduler on grid 'diffusers'; its DPM solver is refused",
    ),
    Family(
        name="flux",
        pipeline="FluxPipeline",
        label="Flux text to image",
        media="image",
        embeds=("prompt_embeds", "pooled_prompt_embeds"),
        tokenizer="tokenizer_2",
        negative=False,
        default_guidance=3.5,
        height=1024,
        width=1024,
        frames=1,
        fps=1,
        size_multiple=16,
        frame_multiple=1,
        gives_sigmas=True,
    ),
    Family(
        name="qwen-image",
        pipeline="QwenImagePipeline",
        label="Qwen-Image text to image",
        media="image",
        embeds=("prompt_embeds", "prompt_embeds_mask"),
        guidance="true_cfg_scale",
        default_guidance=4.0,
        default_length=1024,
        height=1328,
        width=1328,
        frames=1,
        fps=1,
        size_multiple=16,
        frame_multiple=1,
        gives_sigmas=True,
        guides_in_two_calls=True,
        single_batch="its prompts are not padded to one length, so companions would change a result",
    ),
)

REFUSED_PIPELINES: tuple[Refusal, ...] = (
    Refusal(
        name="HunyuanVideoFramepackPipeline", reason="it makes a video section by section, each with a walk of its own"
    ),
    Refusal(name="LTX2Pipeline", reason="its sound is a second stream of latents, which snapshots do not hold yet"),
    Refusal(name="SkyReelsV2DiffusionForcingPipeline", reason="its frames stand at different steps at the same time"),
    Refusal(name="WanAnimatePipeline", reason="it makes a video segment by segment, each with a walk of its own"),
)

REFUSED_SOLVERS: tuple[Refusal, ...] = (
    Refusal(
        name="CogVideoXDPMScheduler",
        reason="half of its history lives in a local variable of the pipeline; use CogVideoXDDIMScheduler",
    ),
    Refusal(name="SCMScheduler", reason="its step returns what only its own pipeline understands"),
)


# Names that other programs write into a model's index for a pipeline that diffusers has under its own.
_ALIASES = {"WanDMDPipeline": "WanPipeline"}


def family_of(pipeline: str) -> Family | None:
    """The family that a pipeline class belongs to."""
    known = _ALIASES.get(pipeline, pipeline)
    return next((family for family in FAMILIES if family.pipeline == known), None)


def refusal_of(name: str) -> str | None:
    """Why a pipeline or solver is refused, if it is."""
    return next((one.reason for one in (*REFUSED_PIPELINES, *REFUSED_SOLVERS) if one.name == name), None)
