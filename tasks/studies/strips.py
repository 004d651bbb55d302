"""Clips as strips of a few small frames, kept beside the numbers: who is told a figure wants to see what it stands for."""

from __future__ import annotations

import base64
import io

import numpy as np

from tasks.studies.likeness import Video

_FRAMES, _HIGHEST = 5, 96


def strip(video: Video) -> str:
    """First, last and a few frames between side by side, as a JPEG in base64."""
    from PIL import Image

    places = np.linspace(0, len(video) - 1, min(_FRAMES, len(video))).round().astype(int)
    frames = (np.clip(video[places], 0, 1) * 255).round().astype(np.uint8)
    count, height, width, channels = frames.shape
    whole = Image.fromarray(frames.transpose(1, 0, 2, 3).reshape(height, count * width, channels))
    whole.thumbnail((whole.width, _HIGHEST))
    buffer = io.BytesIO()
    whole.save(buffer, format="JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()
