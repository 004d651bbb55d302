"""The judge: plain measurement on frames, nothing learned, so nothing in it can flatter a model.

A creature is found by its strong colour, its shape by laying the five outlines over it, its aspect by rulers: how far
the middle moved, how the area grew, how the light changed, how much dark ink is left of eyes and mouth. Each ruler is
divided by what the world's own aspects do, so `1` reads as `just like the real thing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from demo.world.clips import ASPECTS, Identity
from demo.world.finding import find, fit, ghost, ink_in
from demo.world.whole import RAMP, faces, jitter, off_course, ruled

if TYPE_CHECKING:
    from collections.abc import Mapping

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
# How far from its target a clip may end that does as asked: 99 in 100 real clips through the VAE end nearer. Twice the
# motion that was asked for, or less than half of it, is farther.
BOUND: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Verdict:
    """What the judge saw in one clip."""

    identity: Identity
    aspect: str
    rulers: np.ndarray
    track: np.ndarray
    outline: float
    faces: Mapping[str, float]
    ghost: float
    body: np.ndarray

    def followed(self, aspect: str) -> float:
        """How far the clip went the way of `aspect`: 0 not at all, 1 like the real thing."""
        target = np.array(TARGETS[aspect], np.float64)
        if not target.any():
            return float(max(0.0, 1.0 - np.abs(self.rulers).max()))
        return float(self.rulers @ target)

    def does(self, aspect: str) -> bool:
        """Whether the clip does as asked: it ends nearest to it, and near enough. Too much is not it either."""
        return self.aspect == aspect and float(np.linalg.norm(self.rulers - np.array(TARGETS[aspect]))) <= BOUND

    def face(self, aspect: str) -> float:
        """How like the drawn face it is where it is worst: 1 the same."""
        return self.faces[aspect if aspect in self.faces else "plain"]

    def off_course(self, aspect: str) -> float:
        """How far from the way that was asked it is in the mean frame."""
        return off_course(self.track, aspect)

    def jitter(self, aspect: str) -> float:
        """How much it shakes about that way."""
        return jitter(self.track, aspect)


def judge(frames: np.ndarray) -> Verdict:
    """Measure one clip: (T, H, W, 3), float in 0..1."""
    frames = np.asarray(frames, np.float32)
    colour, body, ink = find(frames)
    shape, poses, filled = fit(body, ink)
    ink = ink * filled
    light = [
        float(np.median(f.max(-1)[b < 0.05])) if (b < 0.05).any() else float(f.max())
        for f, b in zip(frames, body, strict=True)
    ]
    eyes = [ink_in(ink[i], p, -0.60, 0.60, -0.42, 0.20) for i, p in enumerate(poses)]
    mouth = [ink_in(ink[i], p, -0.42, 0.42, 0.24, 0.78) for i, p in enumerate(poses)]
    raw = np.array([[p.x, p.y, p.scale, *rest] for p, *rest in zip(poses, light, eyes, mouth, strict=True)])
    # An aspect's ramp is flat at both ends, so two frames can be averaged against noise: the mean of the last two, last.
    *track, rulers = ruled(np.concatenate([raw, raw[-2:].mean(0, keepdims=True)]))
    rulers[:2] /= RAMP_SHARE
    distances = {a: float(np.linalg.norm(rulers - np.array(t))) for a, t in TARGETS.items()}
    return Verdict(
        identity=Identity(shape=shape, colour=colour),
        aspect=min(ASPECTS, key=lambda a: distances[a]),
        rulers=rulers,
        track=np.array(track),
        outline=float(min(p.fit for p in poses)),
        faces={name: float(each.min()) for name, each in faces(ink, poses).items()},
        ghost=ghost(body, shape, poses),
        body=body,
    )


# The mean of the last two frames' ramp less that of the first two.
RAMP_SHARE: Final = float(RAMP[-2:].mean() - RAMP[:2].mean())
