"""What stays fixed over all variants of a prior, checked on construction and fitted to the model."""

import warnings
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

from prior_engine.errors import RequestError, RoundedUpWarning, UnsupportedError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.pictures import Clip, Picture

# What an identity may be given beside its prompt.
INPUTS = ("image", "last_image", "video", "mask", "references", "control_scale")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What stays fixed over all variants: the picture or base prompt, the seed, the size, the length."""

    prompt: str
    negative_prompt: str = ""
    seed: int = 0
    height: int = 480
    width: int = 832
    frames: int = 81
    image: Picture | None = None
    last_image: Picture | None = None
    video: Clip | None = None
    mask: Clip | None = None
    references: tuple[Picture, ...] = ()
    # How far VACE follows its video and references; None = as the pipeline has it.
    control_scale: float | None = None

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise RequestError(f"{name}={value!r} is not a whole number above 0")
        if not 0 <= self.seed < 2**64:
            raise RequestError(f"seed={self.seed!r} is outside 0 .. 2**64-1")
        if self.control_scale is not None and not 0 <= self.control_scale < float("inf"):
            raise RequestError(f"control_scale={self.control_scale!r} is not a number from 0")
        if self.last_image is not None and self.image is None:
            raise RequestError("a last image was given without a first image; give both or neither")
        if self.mask is not None and self.video is None:
            raise RequestError("a mask was given without the video that it masks; give both or neither")
        if self.mask is not None and self.video is not None and len(self.mask.frames) != len(self.video.frames):
            raise RequestError(
                f"the mask has {len(self.mask.frames)} frames and the video {len(self.video.frames)}; they must match"
            )

    def fitted(self, info: ModelInfo) -> "Identity":
        """The identity in a size and length that the model can make, and with inputs that it takes.

        Sizes are rounded up, with a warning that names both values, as Wan users know it.
        """
        check_inputs(info, {name for name in INPUTS if getattr(self, name) not in (None, ())})
        size = info.size_multiple
        height, width, frames = size_made(info, self.height, self.width, self.frames)
        if info.family.trims_strength and self.video is not None:
            self._check_video(self.video, frames, info)
        if (height, width) != (self.height, self.width):
            warnings.warn(
                f"height x width {self.height}x{self.width} is rounded up to {height}x{width}, "
                f"the next multiple of {size} that this model makes",
                RoundedUpWarning,
                stacklevel=2,
            )
        if frames != self.frames and info.family.media == "video":
            warnings.warn(
                f"frames {self.frames} is rounded up to {frames}, the next {info.frame_multiple}n+1 that this model makes",
                RoundedUpWarning,
                stacklevel=2,
            )
        if (height, width, frames) == (self.height, self.width, self.frames):
            return self
        return replace(self, height=height, width=width, frames=frames)

    def _check_video(self, video: Clip, frames: int, info: ModelInfo) -> None:
        count = len(video.frames)
        if count != frames:
            raise RequestError(
                f"the video has {count} frames and {self.frames} are asked for; "
                f"give a video of {info.frame_multiple}n+1 frames and ask for as many"
            )

    def describe(self) -> dict[str, Any]:
        """The identity for recipes and pins."""
        told = {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "height": self.height,
            "width": self.width,
            "frames": self.frames,
            "image": self.image and self.image.describe(),
            "last_image": self.last_image and self.last_image.describe(),
            "video": self.video and self.video.describe(),
            "mask": self.mask and self.mask.describe(),
            "references": [picture.describe() for picture in self.references],
        }
        # What came later is told where it is used: keys from before stay what they are.
        return told if self.control_scale is None else told | {"control_scale": self.control_scale}


def size_made(info: ModelInfo, height: int, width: int, frames: int) -> tuple[int, int, int]:
    """Height, width and frames that the model makes where these are asked for: the next ones that it can."""
    size, step = info.size_multiple, info.frame_multiple
    length = 1 if info.family.media == "image" else -(-(frames - 1) // step) * step + 1
    return -(-height // size) * size, -(-width // size) * size, length


def check_inputs(info: ModelInfo, given: AbstractSet[str]) -> None:
    """Refuse what the model does not take, and the lack of what it needs."""
    extra, lacking = given - info.family.takes, info.family.needs - given
    if extra:
        raise UnsupportedError(
            f"the model family {info.family.name!r} takes no {', '.join(sorted(extra))}; "
            f"it takes {sorted(info.family.takes) or 'a prompt only'}"
        )
    if lacking:
        raise RequestError(f"the model family {info.family.name!r} needs {', '.join(sorted(lacking))}; give it")
