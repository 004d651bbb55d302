"""What was measured of a setting's clips, clip by clip, and how it stands beside another setting on the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.model.evaluate import Judged, Pair
from demo.world import scene

DRAWS = 300
Bounds = tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """One setting: a number for each clip and measure."""

    does: np.ndarray
    identity: np.ndarray
    face: np.ndarray
    outline: np.ndarray
    off_course: np.ndarray
    jitter: np.ndarray
    kept: np.ndarray
    features: np.ndarray
    spectra: np.ndarray

    @classmethod
    def of(cls, seen: Judged, pairs: Sequence[Pair], prior: Judged | None, *, aspect: str = "after") -> Marks:
        """Judge clips of `pairs` that were asked to do as `aspect` says; what is kept is kept of the prior's scene."""
        asked = [getattr(pair, aspect) for pair in pairs]
        whom = [p.identity if aspect == "before" or p.becomes is None else p.becomes for p in pairs]
        verdicts = list(zip(seen.verdicts, asked, strict=True))
        return cls(
            does=np.array([v.does(a) for v, a in verdicts]),
            identity=np.array([v.identity == i for v, i in zip(seen.verdicts, whom, strict=True)]),
            face=np.array([v.face(a) for v, a in verdicts]),
            outline=np.array([v.outline for v, _ in verdicts]),
            off_course=np.array([v.off_course(a) for v, a in verdicts]),
            jitter=np.array([v.jitter(a) for v, a in verdicts]),
            kept=np.array(_kept(seen, prior)) if prior else np.full(len(pairs), np.nan),
            features=seen.features,
            spectra=np.array([scene.spectrum(frames.astype(np.float32)) for frames in seen.frames]),
        )


def _kept(seen: Judged, prior: Judged) -> list[float]:
    clips = zip(seen.frames, seen.verdicts, prior.frames, prior.verdicts, strict=True)
    return [scene.kept(f.astype(np.float32), v.body, g.astype(np.float32), w.body) for f, v, g, w in clips]


def wilson(hits: int, num: int) -> Bounds:
    """95 % bounds of a share: [.981, 1] for 200 of 200, not 1 plus or minus something."""
    z, share = 1.96, hits / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    half = z / (1 + z * z / num) * float(np.sqrt(share * (1 - share) / num + z * z / (4 * num * num)))
    # At the ends the bound is the end itself; rounding would put it a hair beside.
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    high = 1.0 if hits == num else min(1.0, middle + half)
    return low, high


@dataclass(frozen=True, kw_only=True)
class Real:
    """Real clips that went through the VAE: what distances are taken to."""

    features: np.ndarray
    spectra: np.ndarray

    @classmethod
    def of(cls, seen: Judged) -> Real:
        """Their features, of both kinds."""
        return cls(
            features=seen.features,
            spectra=np.array([scene.spectrum(frames.astype(np.float32)) for frames in seen.frames]),
        )

    def distances(self, marks: Marks, which: np.ndarray | slice = slice(None)) -> tuple[float, float]:
        """Frechet distances by plain features of the scene, and by spectra of all there is."""
        return (
            scene.frechet(marks.features[which], self.features),
            scene.frechet(marks.spectra[which], self.spectra),
        )


def told(marks: Marks, real: Real) -> dict[str, object]:
    """The measures of one setting by itself."""
    num, hits = len(marks.does), int(marks.does.sum())
    scene_distance, all_distance = real.distances(marks)
    spread = np.trace(np.cov(marks.features.T / real.features.std(0)[:, None])) / marks.features.shape[1]
    return {
        "follows": hits / num,
        "follows_bounds": wilson(hits, num),
        "identity": float(marks.identity.mean()),
        "face": float(marks.face.mean()),
        "outline": float(marks.outline.mean()),
        "off_course": float(marks.off_course.mean()),
        "jitter": float(marks.jitter.mean()),
        "kept": float(marks.kept.mean()),
        "fd": scene_distance,
        "fd_all": all_distance,
        "spread": float(spread),
    }


def beside(ours: Marks, theirs: Marks, real: Real, seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Ours against theirs on the same clips, by measure: ratio or difference, and its 95 % bounds over draws of pairs."""
    num = len(ours.does)
    rng = np.random.default_rng(seed)
    draws = [np.arange(num), *(rng.integers(num, size=num) for _ in range(DRAWS))]
    found: dict[str, list[float]] = {}
    for which in draws:
        (fd, fd_all), (their_fd, their_all) = real.distances(ours, which), real.distances(theirs, which)
        each = {
            "follows_ratio": ours.does[which].mean() / max(1e-9, theirs.does[which].mean()),
            "fd_ratio": fd / their_fd,
            "fd_all_ratio": fd_all / their_all,
        }
        for name in ("face", "outline", "off_course", "jitter", "kept"):
            each[name] = (getattr(ours, name)[which] - getattr(theirs, name)[which]).mean()
        for name, value in each.items():
            found.setdefault(name, []).append(float(value))
    return {
        name: (values[0], *(float(q) for q in np.quantile(values[1:], (0.025, 0.975))))
        for name, values in found.items()
    }
