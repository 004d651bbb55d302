"""Finds the creature in a clip: its colour, its outline and pose in each frame, and the ink of its face."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from demo.world.clips import COLOURS, SHAPES, SIZE, cover, shape_distance

Y, X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Where an outline lies in a frame, how large it is, and how well it covers what is there."""

    x: float
    y: float
    scale: float
    fit: float


def _chroma(rgb: np.ndarray) -> np.ndarray:
    return rgb / (rgb.sum(-1, keepdims=True) + 1e-3) - 1 / 3


def find(frames: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
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


def fit(body: np.ndarray, ink: np.ndarray) -> tuple[str, list[Pose], np.ndarray]:
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


def _pose(shape: str, body: np.ndarray) -> Pose:
    area, off_x, off_y = _outline(shape)
    weight = float(body.sum()) + 1e-6
    scale = float(np.sqrt(max(weight, 4.0) / area))
    cx = float((body * X).sum() / weight) - off_x * scale
    cy = float((body * Y).sum() / weight) - off_y * scale
    drawn = cover(shape_distance(shape, (X - cx) / scale, (Y - cy) / scale) * scale)
    fit = np.minimum(drawn, body).sum() / (np.maximum(drawn, body).sum() + 1e-6)
    return Pose(x=cx, y=cy, scale=scale, fit=float(fit))


def ink_in(ink: np.ndarray, pose: Pose, left: float, right: float, top: float, bottom: float) -> float:
    """Ink in a box of the creature's own coordinates, in units of its size squared."""
    u, v = (X - pose.x) / pose.scale, (Y - pose.y) / pose.scale
    inside = (u > left) & (u < right) & (v > top) & (v < bottom)
    return float((ink * inside).sum() / pose.scale**2)


def ghost(body: np.ndarray, shape: str, poses: list[Pose]) -> float:
    """The share of creature-coloured pixels well outside the outline: a second creature, or a smear."""
    outside = [
        b[shape_distance(shape, (X - p.x) / p.scale, (Y - p.y) / p.scale) * p.scale > 3].sum()
        for b, p in zip(body, poses, strict=True)
    ]
    return float(np.sum(outside) / (body.sum() + 1e-6))
