"""Reads a video file that nobody vouches for: measured before it is decoded, and in its own format, whatever it claims to be."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from tasks.sheets.local_file import open_checked
from tasks.sheets.media.pictures import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

# What ffmpeg calls the format of each ending.
FORMATS = {".mp4": "mov", ".mov": "mov", ".webm": "matroska", ".gif": "gif"}
MAX_BYTES = 2**30
_PROBE_S = 60


@dataclass(frozen=True, slots=True)
class Film:
    """A video file, as its header tells it."""

    path: str
    form: str
    width: int
    height: int
    seconds: float
    frames: int

    def pictures(self, count: int, max_pixels: int) -> Iterator[Image]:
        """The first `count` frames as they lie in the file, none dropped or doubled; raises OSError if it is broken."""
        from PIL import Image

        # Each frame tells its own size: a file may be turned, or change in its midst.
        command = [
            *_reading(self.form, "-max_pixels", f"{max_pixels}"), self.path,
            "-map", "0:v:0", "-fps_mode", "passthrough", "-frames:v", f"{count}", "-f", "image2pipe", "-c:v", "ppm", "-",
        ]  # fmt: skip
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as decoder:  # noqa: S603  # fmt: skip
            stream = cast("BinaryIO", decoder.stdout)
            try:
                while (kind := stream.readline()) == b"P6\n":
                    width, height = map(int, stream.readline().split())
                    stream.readline()
                    yield Image.frombytes("RGB", (width, height), stream.read(3 * width * height))
                if kind or decoder.wait():
                    raise OSError("it broke off")
            finally:
                decoder.kill()


def _reading(form: str, *more: str) -> list[str]:
    """How ffmpeg is told to read one file and nothing that it names."""
    import imageio_ffmpeg

    # A playlist would be followed to other files, so the format is told and never guessed.
    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-xerror",
        "-protocol_whitelist", "file", *more, "-f", form, "-i",
    ]  # fmt: skip


@contextmanager
def opened_film(location: str, named: str, form: str) -> Iterator[Film]:
    """The file as a copy that nobody changes meanwhile; `named` is what the sheet calls it."""
    import fsspec

    with tempfile.NamedTemporaryFile() as copy:
        with fsspec.open(location, "rb") if "://" in location else open_checked(location) as file:
            left = MAX_BYTES
            while left >= 0 and (data := file.read(2**20)):
                left -= len(data)
                copy.write(data)
        if left < 0:
            raise PictureError(f"{named!r} is larger than {MAX_BYTES >> 20} MiB; give a smaller video")
        copy.flush()
        film = _probed(copy.name, form)
        if film is None:
            raise PictureError(broken(named))
        yield film


def broken(named: str) -> str:
    return f"{named!r} is not a video that can be decoded; give it whole, as mp4, mov, webm or gif"


def _probed(path: str, form: str) -> Film | None:
    """What ffmpeg tells of a file where it is asked for nothing else."""
    asked = subprocess.run(  # noqa: S603
        [*_reading(form), path], capture_output=True, stdin=subprocess.DEVNULL, timeout=_PROBE_S, check=False
    )
    said = asked.stderr.decode(errors="replace")
    stream = re.search(r"Stream #0:\S+.*: Video: .*?\b(\d{1,6})x(\d{1,6})\b(.*)", said)
    if stream is None:
        return None
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", said)
    seconds = 0.0
    if length is not None:
        hours, minutes, rest = map(float, length.groups())
        seconds = 3600 * hours + 60 * minutes + rest
    rate = re.search(r"([\d.]+)(k?) fps", stream[3])
    a_second = float(rate[1]) * (1000 if rate[2] else 1) if rate else 0.0
    return Film(path, form, int(stream[1]), int(stream[2]), seconds, round(seconds * a_second))
