"""The demo model's world: small creatures with a face in a soft scene that lives its own life.

An identity is a shape in a colour. An aspect is what the creature, or the light, does; it is what variants vary.
Everything else (the *life*: place, size, palette, drifting and popping-up lights behind) is drawn from a seed and no
caption says a word about it, so a model of this world has to make it up. That is what makes many steps worth having.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE: Final = 64
FRAMES: Final = 9
SHAPES: Final = ("circle", "square", "triangle", "star", "heart")
COLOURS: Final = {
    "red": (0.90, 0.22, 0.24),
    "yellow": (0.97, 0.76, 0.12),
    "green": (0.25, 0.72, 0.28),
    "teal": (0.08, 0.72, 0.74),
    "blue": (0.20, 0.36, 0.92),
    "purple": (0.66, 0.28, 0.84),
}
ASPECTS: Final = ("still", "left", "right", "up", "down", "grows", "shrinks", "brightens", "darkens", "blinks", "talks")

TRAVEL_PX: Final = 11.0
GROWTH: Final = 1.42
SHRINK: Final = 0.66
BRIGHT: Final = 1.30
DARK: Final = 0.58
DARK_INK: Final = np.array([0.10, 0.07, 0.13], np.float32)
NUM_LIGHTS: Final = 6
NUM_POPUPS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who it is: what every variant has to keep."""

    shape: str
    colour: str


IDENTITIES: Final = tuple(Identity(shape=s, colour=c) for s, c in product(SHAPES, COLOURS))
# No training clip shows these; each shape and each colour is seen in other company.
HELD_OUT: Final = (
    Identity(shape="circle", colour="purple"),
    Identity(shape="square", colour="yellow"),
    Identity(shape="triangle", colour="blue"),
    Identity(shape="star", colour="teal"),
    Identity(shape="heart", colour="green"),
)
TRAINED: Final = tuple(i for i in IDENTITIES if i not in HELD_OUT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """All that a clip is made of. `life` is the seed of what the caption does not tell."""

    identity: Identity
    aspect: str
    life: int


def draw_clips(num: int, *, seed: int, identities: Sequence[Identity] = TRAINED) -> list[Clip]:
    """Draw `num` clips; the same seed draws the same clips."""
    rng = np.random.default_rng(seed)
    who = rng.integers(len(identities), size=num)
    does = rng.integers(len(ASPECTS), size=num)
    lives = rng.integers(2**31, size=num)
    return [
        Clip(identity=identities[i], aspect=ASPECTS[a], life=int(life))
        for i, a, life in zip(who, does, lives, strict=True)
    ]


def shape_distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance (about) to the outline of a shape of unit size; all shapes cover about the same area."""
    if shape == "circle":
        return np.hypot(x, y) - 1.0
    if shape == "square":
        ax, ay = np.abs(x) - 0.66, np.abs(y) - 0.66
        return np.hypot(np.maximum(ax, 0), np.maximum(ay, 0)) + np.minimum(np.maximum(ax, ay), 0) - 0.24
    if shape == "triangle":
        y = y - 0.14
        side = np.abs(x) * 0.8660254 - y * 0.5
        return np.logaddexp(9 * side, 9 * y) / 9 - 0.60
    if shape == "star":
        angle = np.arctan2(x, -y)
        return (np.hypot(x, y) - (1.07 + 0.27 * np.cos(5 * angle))) * 0.80
    if shape == "heart":
        ax, up = np.abs(x) * 0.98, 0.18 - y
        lobes = np.hypot(ax - 0.52, up - 0.28) - 0.62
        tip = np.logaddexp(12 * ((ax - 0.52 + up * 0.86) * 0 + (ax - up * 0.82 - 0.96) * 0.773), 12 * (up - 0.28)) / 12
        return np.minimum(lobes, tip)
    raise ValueError(f"shape {shape!r} is not known; choose one of {SHAPES}")


def cover(distance: np.ndarray, softness: float = 0.9) -> np.ndarray:
    """Anti-aliased cover of a region given its signed distance in pixels."""
    t = np.clip(0.5 - distance / (2 * softness), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def render(clip: Clip) -> np.ndarray:
    """The frames of a clip: (FRAMES, SIZE, SIZE, 3), float32 in 0..1."""
    rng = np.random.default_rng([clip.life, 7])
    time = np.linspace(0.0, 1.0, FRAMES, dtype=np.float32)[:, None, None]
    ramp = time * time * (3 - 2 * time)
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)[:, None] + 0.5

    frames = _scene(rng, time, x, y)
    frames = _creature(clip, rng, frames, ramp, x, y)
    light = 1.0 + ramp * ({"brightens": BRIGHT, "darkens": DARK}.get(clip.aspect, 1.0) - 1.0)
    return np.clip(frames * light[..., None], 0.0, 1.0).astype(np.float32)


def render_all(clips: Sequence[Clip]) -> np.ndarray:
    """The frames of many clips: (N, FRAMES, SIZE, SIZE, 3), uint8."""
    return np.stack([(render(clip) * 255 + 0.5).astype(np.uint8) for clip in clips])


def noise_seed(*parts: object) -> int:
    """A stable seed for a named thing, so that no two measurements share noise by accident."""
    return zlib.crc32(repr(parts).encode())


def _hue(hue: float, saturation: float, value: float) -> np.ndarray:
    ramp = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation + saturation * ramp)).astype(np.float32)


def _scene(rng: np.random.Generator, time: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A pastel gradient, and lights out of focus that drift, swell and appear."""
    hue = rng.uniform()
    low = _hue(hue, rng.uniform(0.14, 0.34), rng.uniform(0.54, 0.68))
    high = _hue((hue + rng.uniform(-0.12, 0.12)) % 1, rng.uniform(0.10, 0.30), rng.uniform(0.60, 0.76))
    angle = rng.uniform(0, 2 * np.pi)
    along = 0.5 + ((x - SIZE / 2) * np.cos(angle) + (y - SIZE / 2) * np.sin(angle)) / SIZE
    frames = (low + np.clip(along, 0, 1)[..., None] * (high - low)) * np.ones((FRAMES, 1, 1, 1), np.float32)

    for number in range(NUM_LIGHTS + NUM_POPUPS):
        cx, cy = rng.uniform(-2, SIZE + 2, 2)
        vx, vy = rng.uniform(-12, 12, 2)
        radius, swell = rng.uniform(3.5, 9.0), rng.uniform(-0.25, 0.35)
        born = rng.uniform(0.05, 0.75)
        shade = _hue((hue + rng.uniform(-0.2, 0.2)) % 1, rng.uniform(0.0, 0.28), rng.choice([0.42, 0.96]))
        strength = rng.uniform(0.40, 0.75)
        if number >= NUM_LIGHTS:
            strength = strength * np.clip((time - born) / 0.25, 0, 1)
        distance = np.hypot(x - cx - vx * time, y - cy - vy * time) - radius * (1 + swell * time)
        alpha = (cover(distance, 2.0) * strength)[..., None]
        frames = frames + alpha * (shade - frames)
    return frames


def _creature(
    clip: Clip, rng: np.random.Generator, frames: np.ndarray, ramp: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """The subject: a soft shadow, a shaded body, two eyes and a mouth."""
    cx, cy = rng.uniform(-7, 7, 2) + SIZE / 2
    size = rng.uniform(10.0, 13.0)
    tone, lamp = rng.uniform(0.90, 1.08), rng.uniform(-0.8, 0.8)

    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(clip.aspect, (0, 0))
    scale = size * (1 + ramp * ({"grows": GROWTH, "shrinks": SHRINK}.get(clip.aspect, 1.0) - 1))
    u = (x - cx - TRAVEL_PX * dx * ramp) / scale
    v = (y - cy - TRAVEL_PX * dy * ramp) / scale

    shadow = cover(shape_distance(clip.identity.shape, u - 0.10, v - 0.16) * scale, 3.0) * 0.30
    frames = frames * (1 - shadow[..., None])
    shade = 1 + 0.13 * np.clip(lamp * u - 0.9 * v, -1.2, 1.2)
    colour = np.array(COLOURS[clip.identity.colour], np.float32) * tone
    body = cover(shape_distance(clip.identity.shape, u, v) * scale)
    frames = frames + body[..., None] * (np.clip(colour * shade[..., None], 0, 1) - frames)

    # A blink closes the eyes to lines, talking opens the mouth wide; both grow with the ramp like every aspect.
    closed = ramp if clip.aspect == "blinks" else 0.0 * ramp
    opened = ramp if clip.aspect == "talks" else 0.0 * ramp
    ink = np.zeros(u.shape, np.float32)
    tall = 0.23 * (1 - closed) + 0.05 * closed
    for side in (-0.37, 0.37):
        ink = np.maximum(ink, cover((np.hypot((u - side) / 0.19, (v + 0.10) / tall) - 1) * tall * scale, 0.8))
    wide, deep = 0.20 + 0.10 * opened, 0.055 + 0.225 * opened
    ink = np.maximum(ink, cover((np.hypot(u / wide, (v - 0.42) / deep) - 1) * deep * scale, 0.8))
    return frames + ink[..., None] * (DARK_INK - frames)
