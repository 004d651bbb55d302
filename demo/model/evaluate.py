"""Judge many generated clips at once, with intervals; the quick evaluation that ends a training is here too."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from demo.model.codec import to_frames, to_video
from demo.model.sample import FOLDERS, WEIGHTS, Sampler, wan_grid
from demo.world import scene
from demo.world.captions import caption
from demo.world.clips import ASPECTS, IDENTITIES, Clip, Identity, draw_clips, noise_seed, render, render_all
from demo.world.judge import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import AutoencoderKLWan

GUIDANCE: Final = {"t2v": 4.0, "i2v": 4.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A prior's prompt (`before`) and a variant's (`after`) for one identity, life and noise."""

    identity: Identity
    before: str
    after: str
    life: int
    seed: int
    becomes: Identity | None = None
    phrasing: int = 0

    def asked(self, *, before: bool) -> str:
        """The prompt of the prior, or of the variant."""
        return self.prompt(self.before) if before else self.prompt(self.after, self.becomes)

    def prompt(self, aspect: str, who: Identity | None = None) -> str:
        """The caption of the identity, or of another, doing `aspect`."""
        return caption(who or self.identity, aspect, phrasing=self.phrasing)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """A set of clips with what was seen in each."""

    frames: np.ndarray
    verdicts: list[Verdict]
    features: np.ndarray

    @classmethod
    def of(cls, frames: np.ndarray) -> Judged:
        """Judge every clip of (N, T, H, W, 3)."""
        verdicts = [judge(clip) for clip in frames]
        features = [scene.features(clip, v.body) for clip, v in zip(frames, verdicts, strict=True)]
        return cls(frames=frames.astype(np.float16), verdicts=verdicts, features=np.array(features))


def draw_pairs(num: int, *, seed: int, neutral: bool = False, phrasings: Sequence[int] = (0,)) -> list[Pair]:
    """Pairs over all identities, held-out ones included, and all aspects; before and after always differ.

    With `neutral` every prior is one at rest, as sheets record it by their base prompt. Pairs take `phrasings` in turn.
    """
    rng = np.random.default_rng([seed, 99])
    pairs = []
    for number in range(num):
        before, after = rng.choice(len(ASPECTS), size=2, replace=False)
        if neutral:
            before, after = 0, 1 + int(rng.integers(len(ASPECTS) - 1))
        pairs.append(
            Pair(
                identity=IDENTITIES[int(rng.integers(len(IDENTITIES)))],
                before=ASPECTS[before],
                after=ASPECTS[after],
                life=int(rng.integers(2**31)),
                seed=noise_seed("pair", seed, number),
                phrasing=phrasings[number % len(phrasings)],
            )
        )
    return pairs


def other_identity(pair: Pair) -> Pair:
    """The same pair, but its variant is told of another identity, at rest."""
    rng = np.random.default_rng([pair.seed % 2**31, 5])
    others = [identity for identity in IDENTITIES if identity != pair.identity]
    return replace(pair, after=pair.before, becomes=others[int(rng.integers(len(others)))])


def first_frames(pairs: Sequence[Pair]) -> np.ndarray:
    """The image of each pair: the first frame of a real clip, which shows nothing of the aspect yet."""
    images = [render(Clip(identity=p.identity, aspect="still", life=p.life))[0] for p in pairs]
    return (np.stack(images) * 255 + 0.5).astype(np.uint8)


def through_vae(vae: AutoencoderKLWan, frames: np.ndarray) -> np.ndarray:
    """Real clips (uint8) encoded and decoded: the best that any denoiser could hand over."""
    import torch

    with torch.no_grad():
        videos = (part.to(vae.device) for part in to_video(frames).split(16))
        parts = [vae.decode(vae.encode(video).latent_dist.mode()).sample for video in videos]
    return np.concatenate([to_frames(part.cpu()) for part in parts])


def accuracy(judged: Judged, identities: Sequence[Identity], aspects: Sequence[str]) -> dict[str, float]:
    """Shares of clips with the right identity, its parts, and the right aspect."""
    rows = list(zip(judged.verdicts, identities, aspects, strict=True))
    return {
        "identity": _share([v.identity == i for v, i, _ in rows]),
        "colour": _share([v.identity.colour == i.colour for v, i, _ in rows]),
        "shape": _share([v.identity.shape == i.shape for v, i, _ in rows]),
        "aspect": _share([v.aspect == a for v, _, a in rows]),
        "detail": float(
            np.mean(
                [
                    scene.detail(f.astype(np.float32), v.body)
                    for f, v in zip(judged.frames, judged.verdicts, strict=True)
                ]
            )
        ),
        "ghost": float(np.mean([v.ghost for v in judged.verdicts])),
    }


def confusion(judged: Judged, aspects: Sequence[str]) -> np.ndarray:
    """Counts: asked (rows) against seen (columns), in the order of `ASPECTS`."""
    table = np.zeros((len(ASPECTS), len(ASPECTS)), int)
    for verdict, asked in zip(judged.verdicts, aspects, strict=True):
        table[ASPECTS.index(asked), ASPECTS.index(verdict.aspect)] += 1
    return table


def half_width(share: float, num: int) -> float:
    """Half of the 95 % interval of a share (Wilson's, so that 1.00 has one too)."""
    z = 1.96
    return z / (1 + z * z / num) * float(np.sqrt(share * (1 - share) / num + z * z / (4 * num * num)))


def look(training: Path, *, num: int = 22, seed: int = 3, device: str = "cpu") -> dict[str, dict[str, float]]:
    """A glance in the midst of a training: a few guided runs of ten steps, judged."""
    sampler, pairs = Sampler.of_training(training, device), draw_pairs(num, seed=seed)
    condition = sampler.condition(first_frames(pairs))
    noise, prompts = sampler.noise([p.seed for p in pairs]), [p.prompt(p.after) for p in pairs]
    report = {}
    for kind, cond in (("t2v", 0 * condition), ("i2v", condition)):
        states = sampler.walk(noise, wan_grid(10), prompts, guidance=GUIDANCE[kind], condition=cond)
        seen = Judged.of(sampler.decode(states[-1]))
        report[kind] = accuracy(seen, [p.identity for p in pairs], [p.after for p in pairs])
    return report


def quick(training: Path, weights: Path = WEIGHTS, *, num: int = 66, seed: int = 4) -> dict[str, object]:
    """What a training ends with: the judge's ceiling and the shipped folders' full guided runs of ten steps."""
    clips = draw_clips(num, seed=seed + 500, identities=IDENTITIES)
    real = render_all(clips)
    who, does = [c.identity for c in clips], [c.aspect for c in clips]
    report: dict[str, object] = {"clips": num, "real": accuracy(Judged.of(real / 255), who, does)}
    pairs = draw_pairs(num, seed=seed)
    for kind in FOLDERS:
        sampler = Sampler.load(weights / kind)
        if "vae" not in report:
            decoded = through_vae(sampler.vae, real)
            quality = {"psnr": float(np.mean([scene.psnr(a, b / 255) for a, b in zip(decoded, real, strict=True)]))}
            report["vae"] = quality | accuracy(Judged.of(decoded), who, does)
        condition = sampler.condition(first_frames(pairs)) if sampler.takes_image else None
        prompts = [p.prompt(p.after) for p in pairs]
        noise = sampler.noise([p.seed for p in pairs])
        states = sampler.walk(noise, wan_grid(10), prompts, guidance=GUIDANCE[kind], condition=condition)
        seen = Judged.of(sampler.decode(states[-1]))
        report[kind] = accuracy(seen, [p.identity for p in pairs], [p.after for p in pairs])
    (training / "evaluation.json").write_text(json.dumps(report, indent=1))
    return report


def _share(hits: list[bool]) -> float:
    return float(np.mean(hits))
