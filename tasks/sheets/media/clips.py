"""Opens the videos and masks that a sheet names, under the rules of its pictures, in the size and length that a row makes."""

from __future__ import annotations

import fnmatch
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from prior_engine.requests.pictures import Clip, Picture
from prior_engine.video import WHAT_TO_DO
from tasks.settings import SheetSettings
from tasks.sheets.local_file import local_path
from tasks.sheets.media.film import FORMATS, broken, opened_film
from tasks.sheets.media.pictures import PictureError, open_picture, resolve_picture

if TYPE_CHECKING:
    from PIL.Image import Image

_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
# What opening a video costs, however small it is, in pixels.
_AT_LEAST = 1_000_000
_PLACES = "give an mp4, mov, webm or gif, or a folder or pattern of pictures, by a path relative to the sheet's folder"


class Size(NamedTuple):
    """What a row makes."""

    height: int
    width: int
    frames: int


class Video(NamedTuple):
    """A video in the size of a row, and the size that its file has: width and height."""

    clip: Clip
    own: tuple[int, int]


@dataclass
class Clips:
    """Reads the videos of one sheet; raises `PictureError`."""

    settings: SheetSettings
    root: str
    _pixels: int = field(default=0, init=False)

    def video(self, named: str, size: Size) -> Video:
        """The first frames of a video file, or of pictures in the order of their names."""
        if _is_picture(named):
            raise PictureError(f"{named!r} is one picture; {_PLACES}")
        self._count(named, size, size.frames)
        return self._film(named, size) if _ending(named) in FORMATS else self._pictures(named, size)

    def mask(self, named: str, size: Size, video: Video | None) -> Video:
        """The same, or one picture for all frames; in the size of the video that it masks."""
        found = self._still(named, size) if _is_picture(named) else self.video(named, size)
        if video is not None and found.own != video.own:
            raise PictureError(
                f"{named!r} has {_shape(*found.own)} pixels and the video {_shape(*video.own)}; give the mask in the video's size"
            )
        return found

    def _count(self, named: str, size: Size, frames: int) -> None:
        """Bounds what a small sheet can have read by naming many videos in many sizes."""
        most = self.settings.max_all_video_pixels
        self._pixels += max(frames * size.height * size.width, _AT_LEAST)
        if self._pixels > most:
            raise PictureError(
                f"with {named!r} the videos of this sheet have more pixels than sheet.max_all_video_pixels={most}; "
                "raise it or split the sheet"
            )

    def _still(self, named: str, size: Size) -> Video:
        self._count(named, size, 1)
        picture = open_picture(resolve_picture(named, self.root, self.settings), self.settings.max_image_pixels)
        return Video(Clip(frames=(_sized(picture, size),) * size.frames), (picture.width, picture.height))

    def _film(self, named: str, size: Size) -> Video:
        settings = self.settings
        location = resolve_picture(named, self.root, settings)
        try:
            with opened_film(location, named, FORMATS[_ending(named)]) as film:
                if film.width * film.height > settings.max_video_pixels:
                    raise PictureError(_too_many_pixels(named, film.width, film.height, settings))
                if film.seconds > settings.max_video_seconds:
                    raise PictureError(
                        f"{named!r} takes {film.seconds:.1f} seconds, more than sheet.max_video_seconds={settings.max_video_seconds:g}"
                    )
                if film.frames > settings.max_video_frames:
                    raise PictureError(_too_many_frames(named, f"about {film.frames}", settings))
                frames = film.pictures(size.frames, settings.max_video_pixels)
                return _clip(named, _alike(frames, named), size)
        except FileNotFoundError:
            raise PictureError(f"there is no video at {location!r}; {_PLACES}") from None
        except (OSError, ValueError, ImportError, RuntimeError, subprocess.TimeoutExpired) as error:
            if isinstance(error, PictureError):
                raise
            if isinstance(error, RuntimeError | ImportError):
                raise PictureError(f"{named!r} cannot be read: {error}; {WHAT_TO_DO}") from None
            raise PictureError(broken(named)) from None

    def _pictures(self, named: str, size: Size) -> Video:
        locations = self._listed(named)
        if len(locations) > self.settings.max_video_frames:
            raise PictureError(_too_many_frames(named, str(len(locations)), self.settings))
        if len(locations) < size.frames:
            raise PictureError(_too_few(named, len(locations), size))
        return _clip(named, self._opened(locations[: size.frames]), size)

    def _listed(self, named: str) -> list[str]:
        """Where the pictures of a folder or pattern lie, in the order of their names; none is opened yet."""
        folder, pattern = named, "*"
        if _is_pattern(named):
            above, _, pattern = named.rpartition("/")
            folder = above or "."
        place = resolve_picture(folder, self.root, self.settings)
        if "://" in place:
            raise PictureError(f"{named!r} is not on this machine, where a folder of pictures has to be; {_PLACES}")
        whole = place if pattern == "*" and folder == named else f"{place}/{pattern}"
        if not Path(place).is_dir():
            raise PictureError(f"there is no video at {whole!r}; {_PLACES}")
        there = (path.name for path in Path(place).iterdir())
        names = [name for name in there if _ending(name) in _PICTURES and fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise PictureError(f"{whole!r} holds no pictures; give PNG, JPEG, WebP or BMP")
        return [f"{place}/{name}" for name in sorted(names)]

    def _opened(self, locations: Iterable[str]) -> Iterator[Picture]:
        settings, first = self.settings, None
        for location in locations:
            # Each may be a link to somewhere else.
            named = location if local_path(self.root) is not None else f"file://{location}"
            real = resolve_picture(named, self.root, settings)
            picture = open_picture(real, settings.max_video_pixels, "sheet.max_video_pixels")
            first = first or picture
            if (picture.width, picture.height) != (first.width, first.height):
                raise PictureError(
                    f"{location!r} has {_shape(picture.width, picture.height)} pixels and the first picture "
                    f"{_shape(first.width, first.height)}; give all of them in one size"
                )
            yield picture


def _clip(named: str, frames: Iterator[Picture] | Iterator[Image], size: Size) -> Video:
    """The frames in the size of the row as they come, so that no more than those are held."""
    own, sized = (0, 0), []
    for frame in frames:
        own = (frame.width, frame.height)
        sized.append(_sized(frame, size))
    if len(sized) < size.frames:
        raise PictureError(_too_few(named, len(sized), size))
    return Video(Clip(frames=tuple(sized)), own)


def _alike(frames: Iterator[Image], named: str) -> Iterator[Image]:
    first = None
    for frame in frames:
        first = first or frame.size
        if frame.size != first:
            raise PictureError(f"{named!r} changes its size midway; give it in one size")
        yield frame


def _sized(frame: Picture | Image, size: Size) -> Picture:
    """As the pipelines size a picture, so that it is known by the pixels that they use."""
    from PIL.Image import Resampling

    if (frame.width, frame.height) == (size.width, size.height):
        return Picture.open(frame)
    image = frame.image() if isinstance(frame, Picture) else frame
    return Picture.open(image.resize((size.width, size.height), Resampling.LANCZOS))


def _ending(named: str) -> str:
    return PurePosixPath(named).suffix.lower()


def _is_pattern(named: str) -> bool:
    return any(sign in named.rpartition("/")[2] for sign in "*?") and "://" not in named


def _is_picture(named: str) -> bool:
    return _ending(named) in _PICTURES and not _is_pattern(named)


def _shape(width: int, height: int) -> str:
    return f"{width}x{height}"


def _too_many_pixels(named: str, width: int, height: int, settings: SheetSettings) -> str:
    return f"{named!r} has {_shape(width, height)} pixels, more than sheet.max_video_pixels={settings.max_video_pixels}"


def _too_many_frames(named: str, count: str, settings: SheetSettings) -> str:
    return f"{named!r} has {count} frames, more than sheet.max_video_frames={settings.max_video_frames}"


def _too_few(named: str, count: int, size: Size) -> str:
    return f"{named!r} has {count} frames and {size.frames} are wanted; give more of them, or ask for fewer in column frames"
