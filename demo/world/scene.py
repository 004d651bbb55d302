"""Measures of the scene, the creature cut out: how much detail it has, how real that looks, how much of a prior's it keeps.

Plain statistics of pixels. `detail` alone would also count artefacts, so it is read beside the Frechet distance; scene
kept is measured on the high band, since one and the same noise already fixes the layout and plain correlation is then
high for anything.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BANDS: Final = (0.7, 1.4, 2.8, 5.6)
HIGH_BAND: Final = 2.0


def scene_mask(*bodies: np.ndarray) -> np.ndarray:
    """Pixels (T, H, W) that no creature, nor its shadow, touches in any of the clips."""
    touched = np.zeros(bodies[0].shape, bool)
    for body in bodies:
        touched |= _blur(body.astype(np.float32), 2.5) > 0.02
    return ~touched


def detail(frames: np.ndarray, body: np.ndarray) -> float:
    """Texture energy: the mean squared gradient of the scene."""
    light, mask = frames.mean(-1), scene_mask(body)
    return _mean(_gradient(light), mask)


def kept(frames: np.ndarray, body: np.ndarray, prior: np.ndarray, prior_body: np.ndarray) -> float:
    """How much of the prior's scene is there: correlation of the high bands, both creatures cut out."""
    mask = scene_mask(body, prior_body)
    ours, theirs = (f.mean(-1) - _blur(f.mean(-1), HIGH_BAND) for f in (frames, prior))
    a, b = ours[mask], theirs[mask]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-9))


def features(frames: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Plain features of one clip for the Frechet distance: energies in space and time, colour, the creature's edges."""
    light, mask = frames.mean(-1), scene_mask(body)
    blurred = [light, *(_blur(light, s) for s in BANDS)]
    bands = [np.log(_mean((fine - coarse) ** 2, mask) + 1e-7) for fine, coarse in pairwise(blurred)]
    change = np.diff(light, axis=0)
    slow = np.diff(blurred[3], axis=0)
    gradient = _gradient(light)
    spread = frames.max(-1) - frames.min(-1)
    inside = body > 0.5
    return np.array(
        [
            *bands,
            np.log(_mean(change**2, mask[1:]) + 1e-7),
            np.log(_mean(slow**2, mask[1:]) + 1e-7),
            np.log(_mean((light[-1:] - light[:1]) ** 2, (mask[-1:] & mask[:1])) + 1e-7),
            _mean(np.sqrt(gradient), mask) / (np.sqrt(_mean(gradient, mask)) + 1e-6),
            _mean(light, mask),
            np.sqrt(_mean((light - _mean(light, mask)) ** 2, mask)),
            _mean(spread, mask),
            np.log(_mean(gradient, inside) + 1e-7),
            _mean(spread, inside),
        ]
    )


def spectrum(frames: np.ndarray) -> np.ndarray:
    """Other features of one clip, all pixels and all frames, the creature too: energies by size and by pace, and colour."""
    light = frames.mean(-1)
    blurred = [light, *(_blur(light, s) for s in BANDS)]
    bands = [*(fine - coarse for fine, coarse in pairwise(blurred)), blurred[-1] - blurred[-1].mean()]
    paces = [band if order == 0 else np.diff(band, n=order, axis=0) for order in (0, 1, 2) for band in bands]
    tones = frames - light[..., None]
    return np.array([*(np.log((pace**2).mean() + 1e-7) for pace in paces), light.mean(), *tones.std((0, 1, 2))])


def frechet(ours: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> float:
    """Frechet distance of two sets of features, each in units of the real set's spread."""
    a, b = np.array(ours, np.float64), np.array(real, np.float64)
    middle, spread = b.mean(0), b.std(0) + 1e-9
    a, b = (a - middle) / spread, (b - middle) / spread
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_b)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_a @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Peak signal to noise in dB, frames in 0..1."""
    return float(-10 * np.log10(np.mean((ours - theirs) ** 2) + 1e-10))


def _gradient(light: np.ndarray) -> np.ndarray:
    dy, dx = np.zeros_like(light), np.zeros_like(light)
    dy[:, :-1], dx[:, :, :-1] = np.diff(light, axis=1), np.diff(light, axis=2)
    return dx * dx + dy * dy


def _mean(values: np.ndarray, mask: np.ndarray) -> float:
    return float(values[mask].mean()) if mask.any() else 0.0


@cache
def _kernel(size: int, sigma: float) -> np.ndarray:
    """Gaussian blur of `size` pixels as a matrix, mirrored at the border."""
    place = np.arange(size)
    weights = np.zeros((size, size))
    reach = int(4 * sigma) + 1
    for shift in range(-reach, reach + 1):
        mirrored = np.mod(place + shift, 2 * size)
        mirrored = np.where(mirrored < size, mirrored, 2 * size - 1 - mirrored)
        np.add.at(weights, (place, mirrored), np.exp(-0.5 * (shift / sigma) ** 2))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _blur(images: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (T, H, W)."""
    h, w = images.shape[1:]
    return _kernel(h, sigma) @ images @ _kernel(w, sigma).T
