"""What to ask of each tiny model: an identity that fits it, and the same in the plain pipeline's own words."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import tiny_models
from PIL import Image

from prior_engine import Clip, Conditioning, Identity, Picture, Schedule

STEPS = 6
LENGTH = 32
OWN = Schedule(scheduler=None, grid="diffusers", num_inference_steps=STEPS, sigma_shift=None)
SIZE = {"height": 32, "width": 32}
# What the plain pipeline calls the guidance, where it is not `guidance_scale`.
GUIDANCE_NAME = {"qwen-image": "true_cfg_scale"}


@cache
def picture(seed: int, size: int = 32) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 255, (size, size, 3), dtype=np.uint8))


@cache
def clip(seed: int, frames: int = 9) -> list[Image.Image]:
    return [picture(100 * seed + index) for index in range(frames)]


def length(kind: str) -> int | None:
    """A short prompt length where the family allows one."""
    return {"qwen-image": None, "hunyuan-video": 64}.get(kind, LENGTH)


def identity(kind: str, **more: Any) -> Identity:
    inputs: dict[str, Any] = {}
    if kind in ("wan-i2v", "wan-i2v-two-experts", "wan-flf2v", "wan-ti2v-image", "ltx-i2v"):
        inputs["image"] = Picture.open(picture(1))
    if kind == "wan-flf2v":
        inputs["last_image"] = Picture.open(picture(2))
    if kind in ("wan-v2v", "wan-vace"):
        inputs["video"] = Clip.open(clip(1))
    if kind == "wan-vace":
        inputs["mask"] = Clip.open([Image.new("RGB", (32, 32), "white") for _ in range(9)])
        inputs["references"] = (Picture.open(picture(3)),)
    frames = 1 if kind in ("flux", "qwen-image") else 9
    return Identity(**{"prompt": "a red cube", "seed": 7, "frames": frames, **SIZE, **inputs, **more})


def told(kind: str, prompt: str = "a red cube", **more: Any) -> Conditioning:
    return Conditioning(
        **{"prompt": prompt, "negative_prompt": "blurred", "guidance": 3.0, "max_sequence_length": length(kind), **more}
    )


def plain_arguments(kind: str) -> dict[str, Any]:
    """The call that a user of diffusers would write."""
    chosen: dict[str, Any] = {"prompt": "a red cube", "num_inference_steps": STEPS, **SIZE}
    chosen[GUIDANCE_NAME.get(kind, "guidance_scale")] = 3.0
    if kind not in ("flux", "hunyuan-video"):
        chosen["negative_prompt"] = "blurred"
    if length(kind) is not None:
        chosen["max_sequence_length"] = length(kind)
    if kind not in ("flux", "qwen-image", "wan-v2v"):
        chosen["num_frames"] = 9
    if kind in ("wan-i2v", "wan-i2v-two-experts", "wan-flf2v", "wan-ti2v-image", "ltx-i2v"):
        chosen["image"] = picture(1)
    if kind == "wan-flf2v":
        chosen["last_image"] = picture(2)
    if kind in ("wan-v2v", "wan-vace"):
        chosen["video"] = list(clip(1))
    if kind == "wan-v2v":
        chosen["strength"] = 0.7
    if kind == "wan-vace":
        chosen["mask"] = [Image.new("RGB", (32, 32), "white") for _ in range(9)]
        chosen["reference_images"] = [picture(3)]
    return chosen


def own_schedule(kind: str) -> Schedule:
    if kind == "wan-v2v":
        return Schedule(
            scheduler=None, grid="diffusers", num_inference_steps=STEPS, sigma_shift=None, denoising_strength=0.7
        )
    return OWN


KINDS = tiny_models.KINDS
# Every law holds in both; in quick runs the first speaks for the second.
BOTH_DTYPES = pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
# Every law holds for all; in quick runs these speak for the others.
SPEAKERS = {"wan-t2v", "wan-i2v", "wan-vace", "ltx", "flux"}
ALL_KINDS = pytest.mark.parametrize(
    "kind", [kind if kind in SPEAKERS else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
