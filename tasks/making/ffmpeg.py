"""Is there an ffmpeg that writes what we need? Asked before a batch walks a step, and by `headstart doctor`."""

from __future__ import annotations

import subprocess

from tasks.errors import PlanError

WHAT_TO_DO = "install the package imageio-ffmpeg again, or name a program: export IMAGEIO_FFMPEG_EXE=/usr/bin/ffmpeg"


def usable_ffmpeg() -> str:
    """The program; a PlanError says in one sentence why there is none."""
    try:
        import imageio_ffmpeg

        program = str(imageio_ffmpeg.get_ffmpeg_exe())
        said = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True)  # noqa: S603
    except (ImportError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
        raise PlanError(f"no ffmpeg that runs: {error}; {WHAT_TO_DO}") from None
    if "libx264" not in said.stdout:
        raise PlanError(f"{program} cannot write H.264 (libx264); {WHAT_TO_DO}")
    return program
