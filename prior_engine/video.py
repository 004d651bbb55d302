"""Frames to files: mp4 without holding all frames, and a preview of the first."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from prior_engine.errors import RequestError, VideoError

WHAT_TO_DO = "install the package imageio-ffmpeg again, or name a program: export IMAGEIO_FFMPEG_EXE=/usr/bin/ffmpeg"


def usable_ffmpeg() -> str:
    """The program; a `VideoError` says in one sentence why there is none."""
    try:
        import imageio_ffmpeg

        program = str(imageio_ffmpeg.get_ffmpeg_exe())
        said = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True)  # noqa: S603
    except (ImportError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise VideoError(f"no ffmpeg that runs: {error}; {WHAT_TO_DO}") from None
    if "libx264" not in said.stdout:
        raise VideoError(f"{program} cannot write H.264 (libx264); {WHAT_TO_DO}")
    return program


def write_video(
    frames: Iterable[Any],
    path: str | Path,
    *,
    fps: float = 16,
    quality: float = 8,
    pix_fmt: str = "yuv420p",
    preview: str | Path | None = None,
) -> int:
    """Write `frames` (uint8, height x width x 3) as H.264 as they come; return how many there were."""
    if not 0 <= quality <= 10:
        raise RequestError(f"quality={quality!r} is outside 0..10 (10 is best)")
    if not fps > 0:
        raise RequestError(f"fps={fps!r} must be above 0")
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise VideoError("there are no frames to write")
    if preview is not None:
        write_preview(first, preview)
    height, width = first.shape[:2]
    command = _command(width, height, fps, quality, pix_fmt, path)
    count = 0
    # What ffmpeg has to say goes to a file: nobody reads a pipe while frames are written.
    with tempfile.TemporaryFile() as said:
        encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)  # noqa: S603
        # The encoder may go at any time; what it said of that is told below.
        with contextlib.suppress(BrokenPipeError), encoder:
            feed = cast("BinaryIO", encoder.stdin)
            for frame in _chained(first, stream):
                feed.write(frame.tobytes())
                count += 1
        if encoder.returncode:
            said.seek(0)
            reason = said.read().decode(errors="replace").strip().partition("\n")[0]
            raise VideoError(f"the video {Path(path).name!r} broke off after {count} frames: {reason}")
    return count


def _command(width: int, height: int, fps: float, quality: float, pix_fmt: str, path: str | Path) -> list[str]:
    import imageio_ffmpeg

    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps}", "-i", "-",
        "-an", "-c:v", "libx264", "-pix_fmt", pix_fmt, "-crf", f"{round((1 - quality / 10) * 51)}", str(path),
    ]  # fmt: skip


def _chained(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def write_preview(frame: Any, path: str | Path) -> None:
    """Write one frame as PNG."""
    from PIL import Image

    Image.fromarray(frame).save(path, format="PNG")
