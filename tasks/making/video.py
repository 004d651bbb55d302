"""Latents to files: decode, mp4, first frame. Runs beside the next denoise; one decode at a time on a device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.making.devices import Lease
from tasks.making.runtime import Runtime

if TYPE_CHECKING:
    from prior_engine import Snapshot


def write_files(
    latents: Snapshot, lease: Lease, runtime: Runtime, context: Context, folder: Path
) -> tuple[dict[str, Path], dict[str, float]]:
    """Decode and write `video.mp4` and `preview.png`; returns the files and the seconds by phase."""
    from prior_engine import write_video

    files = {"video.mp4": folder / "video.mp4", "preview.png": folder / "preview.png"}
    settings = context.settings
    with runtime.decoding:
        started = time.perf_counter()
        frames = _Timed(lease.engine.decode(latents))
        write_video(
            frames,
            files["video.mp4"],
            fps=settings.fps,
            quality=settings.video.quality,
            pix_fmt=settings.video.pix_fmt,
            preview=files["preview.png"],
        )
        whole = time.perf_counter() - started
    return files, {"decode": frames.seconds, "encode": whole - frames.seconds}


class _Timed:
    """Frames as they come, and how long was spent waiting for them."""

    def __init__(self, frames: Iterator[Any]) -> None:
        self._frames = frames
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        started = time.perf_counter()
        try:
            return next(self._frames)
        finally:
            self.seconds += time.perf_counter() - started
