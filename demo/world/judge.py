"""The judge: plain measurement on frames, nothing learned, so nothing in it can flatter a model.

A creature is found by its strong colour, its shape by laying the five outlines over it, its aspect by rulers: how far
the middle moved, how the area grew, how the light changed, how much dark ink is left of eyes and mouth. Each ruler is
divided by what the world's own aspects do, so `1` reads as `just like the real thing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from demo.world.clips import (
    ASPECTS,
    BRIGHT,
    COLOURS,
    DARK,
    GROWTH,
    SHAPES,
    SHRINK,
    SIZE,
    TRAVEL_PX,
    Identity,
    cover,
    shape_distance,
)

RULERS: Final = ("x", "y", "size", "light", "eyes", "mouth")
# Where each aspect ends on the rulers; what is nearest wins, `still` being nowhere.
TARGETS: Final = {
    "still": (0, 0, 0, 0, 0, 0),
    "left": (-1, 0, 0, 0, 0, 0),
    "right": (1, 0, 0, 0, 0, 0),
    "up": (0, -1, 0, 0, 0, 0),
    "down": (0, 1, 0, 0, 0, 0),
    "grows": (0, 0, 1, 0, 0, 0),
    "shrinks": (0, 0, -1, 0, 0, 0),
    "brightens": (0, 0, 0, 1, 0, 0),
    "darkens": (0, 0, 0, -1, 0, 0),
    "blinks": (0, 0, 0, 0, 1, 0),
    "talks": (0, 0, 0, 0, 0, 1),
}
EYES_SHUT: Final = 0.72  # share of the eyes' ink that a blink takes away
MOUTH_OPEN: Final = 0.17  # ink that talking adds, in units of size squared
Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """What the judge saw in one clip."""

    identity: Identity
    aspect: str
    rulers: np.ndarray
    fit: float
    ghost: float
    body: np.ndarray

    def followed(self, aspect: str) -> float:
        """How far the clip went the way of `aspect`: 0 not at all, 1 like the real thing."""
        target = np.array(TARGETS[aspect], np.float64)
        if not target.any():
            return float(max(0.0, 1.0 - np.abs(self.rulers).max()))
        return float(self.rulers @ target)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pose:
    x: float
    y: float
    scale: float
    fit: float


def judge(frames: np.ndarray) -> Verdict:
    """Measure one clip: (T, H, W, 3), float in 0..1."""
    frames = np.asarray(frames, np.float32)
    colour, body, ink = _find(frames)
    shape, poses, filled = _fit(body, ink)
    ink = ink * filled
    identity = Identity(shape=shape, colour=colour)
    first, last = (0, 1), (-2, -1)

    def mean(values: list[float], which: tuple[int, int]) -> float:
        # The aspect's ramp is flat at both ends, so two frames can be averaged against noise.
        return float(np.mean([values[i] for i in which]))

    move_x = mean([p.x for p in poses], last) - mean([p.x for p in poses], first)
    move_y = mean([p.y for p in poses], last) - mean([p.y for p in poses], first)
    growth = np.log(mean([p.scale for p in poses], last) / mean([p.scale for p in poses], first))
    eyes = [_ink_in(ink[i], p, -0.60, 0.60, -0.42, 0.20) for i, p in enumerate(poses)]
    mouth = [_ink_in(ink[i], p, -0.42, 0.42, 0.24, 0.78) for i, p in enumerate(poses)]
    scene = [
        float(np.median(f.max(-1)[b < 0.05])) if (b < 0.05).any() else float(f.max())
        for f, b in zip(frames, body, strict=True)
    ]
    light = np.log((mean(scene, last) + 1e-3) / (mean(scene, first) + 1e-3))
    rulers = np.array(
        [
            move_x / (TRAVEL_PX * RAMP_SHARE),
            move_y / (TRAVEL_PX * RAMP_SHARE),
            growth / np.log(GROWTH) if growth > 0 else -growth / np.log(SHRINK),
            light / np.log(BRIGHT) if light > 0 else -light / np.log(DARK),
            # The eyes of a creature that shrank are too small to be read well, so they count for less.
            (1 - mean(eyes, last) / (mean(eyes, first) + 1e-3)) / EYES_SHUT * min(1.0, np.exp(2 * growth)),
            (mean(mouth, last) - mean(mouth, first)) / MOUTH_OPEN,
        ]
    )
    distances = {a: float(np.linalg.norm(rulers - np.array(t))) for a, t in TARGETS.items()}
    return Verdict(
        identity=identity,
        aspect=min(ASPECTS, key=lambda a: distances[a]),
        rulers=rulers,
        fit=float(np.mean([p.fit for p in poses])),
        ghost=_ghost(body, shape, poses),
        body=body,
    )


# The mean of the last two frames' ramp less that of the first two.
_RAMP: Final = np.linspace(0, 1, 9) ** 2 * (3 - 2 * np.linspace(0, 1, 9))
RAMP_SHARE: Final = float(_RAMP[-2:].mean() - _RAMP[:2].mean())


def _chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb / (rgb.sum(-1, keepdims=True) + 1e-3) - 1 / 3


def _find(frames: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """The colour's name, how much each pixel is creature (T, H, W), and how much of it is ink."""
    top, bottom = frames.max(-1), frames.min(-1)
    vivid = np.clip(((top - bottom) / (top + 1e-3) - 0.42) / 0.2, 0, 1) * (top > 0.2)
    chroma = _chroma(frames)
    names = list(COLOURS)
    known = _chroma(np.array([COLOURS[n] for n in names]))
    # Which colour has most of the vivid pixels, each going to its nearest.
    nearest = (chroma @ known.T - (known * known).sum(-1) / 2).argmax(-1)
    votes = np.bincount(nearest.ravel(), weights=vivid.ravel(), minlength=len(names))
    number = int(votes.argmax())
    direction = known[number] / np.linalg.norm(known[number])
    body = vivid * np.clip((chroma @ direction / np.linalg.norm(known[number]) - 0.35) / 0.25, 0, 1)
    level = np.array([np.median(t[b > 0.9]) if (b > 0.9).any() else 1.0 for t, b in zip(top, body, strict=True)])
    # Darkness is summed up, not thresholded: blur spreads ink but does not take it away.
    ink = np.clip((0.80 - top / level[:, None, None]) / 0.70, 0, 1)
    return names[number], body, ink


@cache
def _outline(shape: str) -> tuple[float, float, float]:
    """Area and middle of the unit outline."""
    y, x = np.mgrid[-2:2:400j, -2:2:400j]
    inside = shape_distance(shape, x, y) < 0
    return float(inside.sum() * (4 / 400) ** 2), float(x[inside].mean()), float(y[inside].mean())


def _fit(body: np.ndarray, ink: np.ndarray) -> tuple[str, list[_Pose], np.ndarray]:
    """The shape whose outline covers the creature best, its pose in each frame, and the creature without holes."""
    filled = np.stack([_filled(b, i) for b, i in zip(body, ink, strict=True)])
    looks = filled[:: max(1, (len(filled) - 1) // 2)]
    fits = {shape: np.mean([_pose(shape, b).fit for b in looks]) for shape in SHAPES}
    shape = max(SHAPES, key=lambda s: fits[s])
    return shape, [_pose(shape, b) for b in filled], filled


def _filled(body: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The creature without the holes that eyes and mouth make.

    A hole has body on all four sides; what is dark as ink may be open on one, as a mouth at the rim is.
    """
    weight = body.sum() + 1e-6
    cx, cy = (body * X).sum() / weight, (body * Y).sum() / weight
    near = body * (np.hypot(X - cx, Y - cy) < 2.2 * np.sqrt(weight / np.pi) + 2)
    over = [np.maximum.accumulate(near, 0), np.maximum.accumulate(near[::-1], 0)[::-1]]
    over += [np.maximum.accumulate(near, 1), np.maximum.accumulate(near[:, ::-1], 1)[:, ::-1]]
    sides = np.sort(over, axis=0)
    return np.maximum(near, np.where(ink > 0.6, sides[1], sides[0]))


def _pose(shape: str, body: np.ndarray) -> _Pose:
    area, off_x, off_y = _outline(shape)
    weight = float(body.sum()) + 1e-6
    scale = float(np.sqrt(max(weight, 4.0) / area))
    cx = float((body * X).sum() / weight) - off_x * scale
    cy = float((body * Y).sum() / weight) - off_y * scale
    drawn = cover(shape_distance(shape, (X - cx) / scale, (Y - cy) / scale) * scale)
    fit = np.minimum(drawn, body).sum() / (np.maximum(drawn, body).sum() + 1e-6)
    return _Pose(x=cx, y=cy, scale=scale, fit=float(fit))


def _ink_in(ink: np.ndarray, pose: _Pose, left: float, right: float, top: float, bottom: float) -> float:
    """Ink in a box of the creature's own coordinates, in units of its size squared."""
    u, v = (X - pose.x) / pose.scale, (Y - pose.y) / pose.scale
    inside = (u > left) & (u < right) & (v > top) & (v < bottom)
    return float((ink * inside).sum() / pose.scale**2)


def _ghost(body: np.ndarray, shape: str, poses: list[_Pose]) -> float:
    """The share of creature-coloured pixels well outside the outline: a second creature, or a smear."""
    outside = [
        b[shape_distance(shape, (X - p.x) / p.scale, (Y - p.y) / p.scale) * p.scale > 3].sum()
        for b, p in zip(body, poses, strict=True)
    ]
    return float(np.sum(outside) / (body.sum() + 1e-6))
