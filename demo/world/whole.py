"""What all frames of a clip say, not the first and the last alone: does the creature go the way that was asked, in step, and
keep its face and its outline on the way?

A clip that breaks in mid-motion and is whole again at its end passes every look at its ends. Nothing here is learned: the
world says where each ruler stands in every frame, and where eyes and mouth are drawn.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from demo.world.clips import BRIGHT, DARK, FRAMES, GROWTH, SHRINK, TRAVEL_PX, cover
from demo.world.finding import X, Y

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.world.finding import Pose

RULERS: Final = ("x", "y", "size", "light", "eyes", "mouth")
EYES_SHUT: Final = 0.72  # share of the eyes' ink that a blink takes away
MOUTH_OPEN: Final = 0.17  # ink that talking adds, in units of size squared
RAMP: Final = np.linspace(0, 1, FRAMES) ** 2 * (3 - 2 * np.linspace(0, 1, FRAMES))
# What a face does meanwhile: how far the eyes close and the mouth opens at the end.
EXPRESSIONS: Final = {"plain": (0.0, 0.0), "blinks": (1.0, 0.0), "talks": (0.0, 1.0)}


def ruled(raw: np.ndarray) -> np.ndarray:
    """Each ruler in each frame, in units of what the world's own aspects do; from x, y, scale, light, eyes' ink, mouth's ink.

    The first two frames, where hardly anything has happened yet, are where they count from.
    """
    x, y, scale, light, eyes, mouth = (column - 0.0 for column in raw.T)
    growth = np.log(scale / scale[:2].mean())
    lit = np.log((light + 1e-3) / (light[:2].mean() + 1e-3))
    # The eyes of a creature that shrank are too small to be read well, so they count for less.
    shut = (1 - eyes / (eyes[:2].mean() + 1e-3)) / EYES_SHUT * np.minimum(1.0, np.exp(2 * growth))
    return np.stack(
        [
            (x - x[:2].mean()) / TRAVEL_PX,
            (y - y[:2].mean()) / TRAVEL_PX,
            np.where(growth > 0, growth / np.log(GROWTH), -growth / np.log(SHRINK)),
            np.where(lit > 0, lit / np.log(BRIGHT), -lit / np.log(DARK)),
            shut,
            (mouth - mouth[:2].mean()) / MOUTH_OPEN,
        ],
        axis=1,
    )


@cache
def expected(aspect: str) -> np.ndarray:
    """Where each ruler stands in each frame of a clip that does `aspect`."""
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(aspect, (0, 0))
    size = {"grows": GROWTH, "shrinks": SHRINK}.get(aspect, 1.0)
    light = {"brightens": BRIGHT, "darkens": DARK}.get(aspect, 1.0)
    raw = [
        TRAVEL_PX * dx * RAMP,
        TRAVEL_PX * dy * RAMP,
        1 + RAMP * (size - 1),
        1 + RAMP * (light - 1),
        1 - EYES_SHUT * RAMP * (aspect == "blinks"),
        MOUTH_OPEN * RAMP * (aspect == "talks"),
    ]
    return ruled(np.stack(raw, axis=1))


def off_course(track: np.ndarray, aspect: str) -> float:
    """How far from its way the clip is in the mean frame, all rulers together; 1 is as far as an aspect goes."""
    return float(np.sqrt(((track - expected(aspect)) ** 2).sum(1)).mean())


def jitter(track: np.ndarray, aspect: str) -> float:
    """How much place and size shake about the way that was asked, from frame to frame."""
    shake = np.diff((track - expected(aspect))[:, :3], n=2, axis=0)
    return float(np.sqrt((shake**2).sum(1).mean()))


def faces(ink: np.ndarray, poses: Sequence[Pose]) -> dict[str, np.ndarray]:
    """For each expression, how like the drawn one the face is in each frame: correlation of the ink, 1 the same."""
    return {name: _faces(ink, poses, *ends) for name, ends in EXPRESSIONS.items()}


def _faces(ink: np.ndarray, poses: Sequence[Pose], shut: float, opened: float) -> np.ndarray:
    found = []
    for dark, pose, ramp in zip(ink, poses, RAMP, strict=True):
        u, v = (X - pose.x) / pose.scale, (Y - pose.y) / pose.scale
        inside = (np.abs(u) < 0.72) & (v > -0.48) & (v < 0.80)
        drawn = _face(u[inside], v[inside], pose.scale, shut * ramp, opened * ramp)
        found.append(_likeness(dark[inside], drawn))
    return np.array(found)


def _face(u: np.ndarray, v: np.ndarray, scale: float, shut: float, opened: float) -> np.ndarray:
    """Two eyes and a mouth, as the world draws them."""
    tall = 0.23 * (1 - shut) + 0.05 * shut
    wide, deep = 0.20 + 0.10 * opened, 0.055 + 0.225 * opened
    parts = [cover((np.hypot((u - side) / 0.19, (v + 0.10) / tall) - 1) * tall * scale, 1.4) for side in (-0.37, 0.37)]
    parts.append(cover((np.hypot(u / wide, (v - 0.42) / deep) - 1) * deep * scale, 1.4))
    return np.max(parts, axis=0)


def _likeness(ours: np.ndarray, drawn: np.ndarray) -> float:
    if ours.size < 9:
        return 0.0
    a, b = ours - ours.mean(), drawn - drawn.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-6))
