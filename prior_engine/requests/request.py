"""What is asked for: an identity, and the conditioning of a run. Frozen values, checked on construction, no torch."""

import hashlib
import html
import io
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prior_engine.errors import RequestError, RoundedUpWarning, UnsupportedError
from prior_engine.models.spec import ModelInfo

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One still picture, known by the hash of its bytes and of its decoded pixels."""

    data: bytes = field(repr=False)
    sha256: str
    pixels_sha256: str
    width: int
    height: int

    @classmethod
    def open(cls, source: "str | Path | bytes | Image | Picture") -> "Picture":
        """Take a picture from a path, from bytes or from PIL."""
        if isinstance(source, Picture):
            return source
        from PIL import Image, UnidentifiedImageError

        if isinstance(source, Image.Image):
            buffer = io.BytesIO()
            source.save(buffer, format="PNG", exif=source.getexif())
            data = buffer.getvalue()
        elif isinstance(source, bytes):
            data = source
        else:
            try:
                data = Path(source).read_bytes()
            except OSError as problem:
                raise RequestError(f"the picture {str(source)!r} cannot be read: {problem}") from None
        try:
            rgb = _upright(data)
        except (UnidentifiedImageError, OSError) as problem:
            raise RequestError(f"the picture cannot be decoded: {problem}") from None
        pixels = hashlib.sha256(f"{rgb.width}x{rgb.height}".encode() + rgb.tobytes()).hexdigest()
        return cls(
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            pixels_sha256=pixels,
            width=rgb.width,
            height=rgb.height,
        )

    def image(self) -> "Image":
        """The picture as PIL sees it, in RGB."""
        return _upright(self.data)

    def describe(self) -> dict[str, Any]:
        """Known by its pixels: the same picture in another file is the same identity."""
        return {"pixels_sha256": self.pixels_sha256, "width": self.width, "height": self.height}


def _upright(data: bytes) -> "Image":
    """The picture in RGB, turned as its camera says it was held."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """An input video: its frames in order."""

    frames: tuple[Picture, ...] = field(repr=False)

    @classmethod
    def open(cls, frames: "Sequence[Any] | Clip") -> "Clip":
        """Take a video from its frames, each a path, bytes or PIL picture."""
        if isinstance(frames, Clip):
            return frames
        if not frames:
            raise RequestError("the video has no frames; give at least one")
        return cls(frames=tuple(Picture.open(frame) for frame in frames))

    def images(self) -> "list[Image]":
        return [frame.image() for frame in self.frames]

    def describe(self) -> dict[str, Any]:
        whole = hashlib.sha256("".join(frame.pixels_sha256 for frame in self.frames).encode()).hexdigest()
        return {"frames": len(self.frames), "pixels_sha256": whole}


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

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise RequestError(f"{name}={value!r} is not a whole number above 0")
        if not 0 <= self.seed < 2**64:
            raise RequestError(f"seed={self.seed!r} is outside 0 .. 2**64-1")
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
        self._check_inputs(info)
        if info.family.trims_strength and self.video is not None:
            self._check_video(self.video, info)
        size = info.size_multiple
        height, width = (-(-value // size) * size for value in (self.height, self.width))
        frames = (
            1
            if info.family.media == "image"
            else -(-(self.frames - 1) // info.frame_multiple) * info.frame_multiple + 1
        )
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

    def _check_video(self, video: Clip, info: ModelInfo) -> None:
        count = len(video.frames)
        if count != self.frames or (count - 1) % info.frame_multiple:
            raise RequestError(
                f"the video has {count} frames and {self.frames} are asked for; "
                f"give a video of {info.frame_multiple}n+1 frames and ask for as many"
            )

    def _check_inputs(self, info: ModelInfo) -> None:
        given = {name for name in ("image", "last_image", "video", "mask", "references") if getattr(self, name)}
        extra, lacking = given - info.family.takes, info.family.needs - given
        if extra:
            raise UnsupportedError(
                f"the model family {info.family.name!r} takes no {', '.join(sorted(extra))}; "
                f"it takes {sorted(info.family.takes) or 'a prompt only'}"
            )
        if lacking:
            raise RequestError(f"the model family {info.family.name!r} needs {', '.join(sorted(lacking))}; give it")

    def describe(self) -> dict[str, Any]:
        """The identity for recipes and pins."""
        return {
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """Low-rank weights to be put on the model for one run, known by the hash of their file."""

    path: str
    sha256: str
    weight: float = 1.0
    expert: Literal["both", "high", "low"] = "both"

    @classmethod
    def open(cls, path: str | Path, weight: float = 1.0, expert: Literal["both", "high", "low"] = "both") -> "Lora":
        """Take the weights from a safetensors file; `expert` says which half of a two-expert model gets them."""
        if expert not in ("both", "high", "low"):
            raise RequestError(f"expert={expert!r} is not known; choose one of ['both', 'high', 'low']")
        try:
            with Path(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as problem:
            raise RequestError(f"the LoRA file {str(path)!r} cannot be read: {problem}") from None
        return cls(path=str(path), sha256=digest, weight=weight, expert=expert)

    def describe(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "weight": self.weight, "expert": self.expert}


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """What a run is told: prompts, guidance, extra weights. This is what a variant may change."""

    prompt: str
    negative_prompt: str = ""
    guidance: float | None = None
    guidance_2: float | None = None
    loras: tuple[Lora, ...] = ()
    max_sequence_length: int | None = None

    def __post_init__(self) -> None:
        if self.max_sequence_length is not None and self.max_sequence_length < 1:
            raise RequestError(f"max_sequence_length={self.max_sequence_length!r} must be at least 1")

    @property
    def texts(self) -> tuple[str, str, int | None]:
        """What the text encoder sees of it; conditionings with equal texts share one embedding."""
        return self.prompt, self.negative_prompt, self.max_sequence_length

    def describe(self) -> dict[str, Any]:
        """The conditioning for recipes."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "guidance": self.guidance,
            "guidance_2": self.guidance_2,
            "loras": [lora.describe() for lora in self.loras],
            "max_sequence_length": self.max_sequence_length,
        }


def clean_prompt(text: str) -> str:
    """The prompt as Wan's text encoder gets to see it: mended, unescaped, with single spaces.

    ftfy changes prompts (curly quotes, ligatures), so it is required, never optional.
    """
    import ftfy

    mended = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", mended).strip()


def embedding_recipe(info: ModelInfo, told: Conditioning) -> dict[str, Any]:
    """All that decides an embedding: a key of the prompt alone would mix encoders, lengths and dtypes."""
    clean = clean_prompt if info.family.cleans_prompt else str
    return {
        "text_encoder": info.text_fingerprint,
        "family": info.family.name,
        "dtype": info.dtype,
        "quantization": None,
        "max_sequence_length": told.max_sequence_length or info.max_sequence_length,
        "prompt": clean(told.prompt),
        "negative_prompt": clean(told.negative_prompt) if info.family.negative else None,
    }
