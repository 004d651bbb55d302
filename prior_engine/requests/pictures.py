"""Pictures and clips that a run is given: known by their pixels, opened from paths, bytes or PIL."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prior_engine.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image


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
            # Frames of a video are many: a little larger is much sooner done.
            source.save(buffer, format="PNG", exif=source.getexif(), compress_level=1)
            data = buffer.getvalue()
        elif isinstance(source, bytes):
            data = source
        else:
            try:
                data = Path(source).read_bytes()
            except OSError as problem:
                raise RequestError(f"the picture {str(source)!r} cannot be read: {problem}") from None
        try:
            # What is plain already need not be decoded again to be known.
            known = isinstance(source, Image.Image) and source.mode == "RGB" and not source.getexif()
            rgb = cast("Image.Image", source) if known else _upright(data)
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
