"""How alike videos are, measured on pixels, on latents and by what the model itself sees in them, so that it means the same
for every model.

Three videos that came from the same noise are compared: a prior, the full run of another prompt, and a variant that was
told that prompt. What a number is worth shows beside its control, the same number of steps without a prior.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Video = NDArray[np.float32]
# Blocks along the shorter side: coarse enough that a subject that moved half the way looks half-way, fine enough to see
# its parts.
BLOCKS = 8
# So much of the way from the prior to the full run of its own prompt, and a variant is said to follow. At this bar the
# answers lie around those of a judge that knows the truth (docs/fidelity.md); at a half they are a little too hopeful.
FOLLOWS = 0.6
# And no further than this: beyond it a variant does not follow better, it overdoes what was asked.
TOO_FAR = 1.1
# So much less of the prior than a full run keeps is no difference that anyone sees.
AS_MUCH = 0.02
# Powers below this are nothing.
NOTHING = 1e-9
# Where the model is asked which prompt it sees: noisy enough that the prompt counts, clear enough that the video does.
ASKED_AT_SIGMA = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What one run kept of the prior, how far it followed its prompt, and how much there is to see at every scale."""

    followed: float
    first: float
    layout: float
    latents: float
    detail: list[float]
    steps: int
    seconds: float

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def between(value: float, prior: float, full: float) -> float:
    """Where a number stands between the prior's (0) and that of the full run of the variant's prompt (1)."""
    return (value - prior) / (full - prior) if full != prior else 0.0


def on_the_way(video: Video, prior: Video, full: Video) -> float:
    """How far the pixels went from the prior's towards the full run's, in block means."""
    way = coarse(full) - coarse(prior)
    length = float((way * way).sum())
    return float(((coarse(video) - coarse(prior)) * way).sum()) / length if length else 0.0


def changed(prior: Video, full: Video) -> float:
    """How much the prompt changes at all, as a share of what there is to see: a pair near 0 measures nothing."""
    base = coarse(prior)
    spread = float(((base - base.mean()) ** 2).sum())
    return float(((coarse(full) - base) ** 2).sum()) / spread if spread else 0.0


def explained(video: Video, prior: Video) -> float:
    """The share of the prior's variance that is there: 1 is the same, 0 no better than plain grey."""
    spread = float(((prior - prior.mean()) ** 2).mean())
    return (
        max(0.0, 1.0 - float(((video - prior) ** 2).mean()) / spread) if spread else float(np.array_equal(video, prior))
    )


def layout(video: Video, prior: Video, full: Video) -> float:
    """The share of the prior's coarse layout that is there, in the half of the blocks that the prompt changes least."""
    base = coarse(prior)
    stir = np.abs(coarse(full) - base).mean((0, 3))
    still = stir <= np.median(stir)
    return explained(coarse(video)[:, still], base[:, still])


def agreement(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Correlation of two arrays."""
    a, b = ours - ours.mean(), theirs - theirs.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0


def detail(video: Video) -> list[float]:
    """How much there is to see at every scale, from the whole picture down to pixels: power of its light by octaves.

    Few steps lose fine structure first, little guidance loses the coarse: a measure of one scale is blind to the other.
    """
    light = video.mean(-1)
    height, width = light.shape[1:]
    power = np.square(np.abs(np.fft.fft2(light - light.mean((1, 2), keepdims=True)))).mean(0) / (height * width) ** 2
    # In cycles over the shorter side.
    waves = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) * min(height, width)
    edges = 2.0 ** np.arange(max(1, int(np.log2(min(height, width))) - 1))
    octave = np.digitize(waves, edges)
    return [float(power[octave == number].sum()) for number in range(1, len(edges) + 1)]


def coarse(video: Video) -> Video:
    """Block means: (T, H, W, C) to about `BLOCKS` blocks along the shorter side."""
    height, width = video.shape[1:3]
    size = max(1, min(height, width) // BLOCKS)
    cut = video[:, : height - height % size, : width - width % size]
    t, h, w, c = cut.shape
    blocks: Video = cut.reshape(t, h // size, size, w // size, size, c).mean((2, 4))
    return blocks
