"""What a prior is worth on the demo model, beside the controls: `python -m benchmarks.fidelity --kind t2v --pairs 200`.

Every row runs the same pairs. `follows` is the share of clips whose aspect the judge sees as asked, `identity` likewise,
`FD` the Frechet distance of plain features to real clips that went through the VAE, `detail` the texture energy over
theirs, `kept` the high-band agreement of the scene with the prior's. Half-widths are 95 % (Wilson for shares, bootstrap
over pairs for FD, normal for means). Steps are those that the row itself runs; a prior's own are paid once.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from demo import scene
from demo.evaluate import Judged, Pair, draw_pairs, first_frames, half_width, through_vae
from demo.sample import FOLDERS, Sampler, diffusers_grid, respaced_tail, wan_grid
from demo.world import ASPECTS, IDENTITIES, draw_clips, noise_seed, render_all

STEPS = 10
SHIFT = 5.0


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    steps: int
    follows: float
    follows_hw: float
    strength: float
    still_before: float
    identity: float
    shape: float
    detail: float
    fd: float
    fd_hw: float
    kept: float
    kept_hw: float
    ghost: float


class Study:
    """One kind and guidance: the pairs, their priors, and a row for each setting asked for."""

    def __init__(self, kind: str, pairs: list[Pair], guidance: float, folder: Path, reference: int) -> None:
        self.kind, self.pairs, self.guidance = kind, pairs, guidance
        self.sampler = Sampler.load(folder)
        real = render_all(draw_clips(reference, seed=7777, identities=IDENTITIES))
        self.real = Judged.of(through_vae(self.sampler.vae, real))
        self.real_detail = float(
            np.mean(
                [
                    scene.detail(f.astype(np.float32), v.body)
                    for f, v in zip(self.real.frames, self.real.verdicts, strict=True)
                ]
            )
        )
        self.condition = self.sampler.condition(first_frames(pairs)) if self.sampler.takes_image else None
        self.noise = self.sampler.noise([p.seed for p in pairs])
        self.rows: list[Row] = []
        # Half of the real clips against the other half, at the pairs' own number: nothing can read lower than this.
        half = min(len(pairs), reference // 2)
        self.floor = scene.frechet(self.real.features[:half], self.real.features[half:])

    def walk(self, start: torch.Tensor, sigmas: torch.Tensor, *, before: bool = False) -> list[torch.Tensor]:
        prompts = [p.prompt(p.before if before else p.after) for p in self.pairs]
        return self.sampler.walk(start, sigmas, prompts, guidance=self.guidance, condition=self.condition)

    def judge(self, latents: torch.Tensor) -> Judged:
        return Judged.of(self.sampler.decode(latents))

    def add(self, name: str, steps: int, seen: Judged, prior: Judged | None, *, aspect: str = "after") -> Row:
        n = len(self.pairs)
        asked = [getattr(p, aspect) for p in self.pairs]
        follows = float(np.mean([v.aspect == a for v, a in zip(seen.verdicts, asked, strict=True)]))
        kept = (
            [
                scene.kept(f.astype(np.float32), v.body, g.astype(np.float32), w.body)
                for f, v, g, w in zip(seen.frames, seen.verdicts, prior.frames, prior.verdicts, strict=True)
            ]
            if prior
            else [float("nan")] * n
        )
        rng = np.random.default_rng(0)
        draws = [scene.frechet(seen.features[rng.integers(n, size=n)], self.real.features) for _ in range(60)]
        fd = scene.frechet(seen.features, self.real.features)
        row = Row(
            name=name,
            steps=steps,
            follows=follows,
            follows_hw=half_width(follows, n),
            strength=float(np.mean([v.followed(a) for v, a in zip(seen.verdicts, asked, strict=True)])),
            still_before=float(np.mean([v.aspect == p.before for v, p in zip(seen.verdicts, self.pairs, strict=True)])),
            identity=float(np.mean([v.identity == p.identity for v, p in zip(seen.verdicts, self.pairs, strict=True)])),
            shape=float(
                np.mean([v.identity.shape == p.identity.shape for v, p in zip(seen.verdicts, self.pairs, strict=True)])
            ),
            detail=float(
                np.mean(
                    [
                        scene.detail(f.astype(np.float32), v.body)
                        for f, v in zip(seen.frames, seen.verdicts, strict=True)
                    ]
                )
            )
            / self.real_detail,
            fd=fd,
            fd_hw=1.96 * float(np.std(draws)),
            kept=float(np.mean(kept)),
            kept_hw=1.96 * float(np.std(kept)) / n**0.5,
            ghost=float(np.mean([v.ghost for v in seen.verdicts])),
        )
        self.rows.append(row)
        print(as_line(row), flush=True)
        return row


def as_line(row: Row) -> str:
    return (
        f"| {row.name} | {row.steps} | {row.follows:.3f} ±{row.follows_hw:.3f} | {row.strength:.2f} | {row.still_before:.2f} "
        f"| {row.identity:.3f} | {row.detail:.2f} | {row.fd:.2f} ±{row.fd_hw:.2f} | {row.kept:.3f} ±{row.kept_hw:.3f} | {row.ghost:.3f} |"
    )


HEAD = (
    "| setting | steps | follows B | strength | follows A | identity | detail / real | FD | kept | ghost |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def run(study: Study, parts: set[str]) -> None:
    """The settings of `parts`, controls always."""
    print(HEAD, flush=True)
    grid = wan_grid(STEPS, SHIFT)
    prior_states = study.walk(study.noise, grid, before=True)
    prior = study.judge(prior_states[-1])
    study.add("prior itself (A)", STEPS, prior, None, aspect="before")
    study.add("full run of B", STEPS, study.judge(study.walk(study.noise, grid)[-1]), prior)
    if "seed" in parts:
        other = study.sampler.noise([noise_seed("other", p.seed) for p in study.pairs])
        study.add("full run of B, other noise", STEPS, study.judge(study.walk(other, grid)[-1]), prior)
    for steps in (3, 2):
        for shift in (1.0, 3.0, 5.0, 8.0) if steps == 3 else (1.0, 3.0, 5.0):
            seen = study.judge(study.walk(study.noise, wan_grid(steps, shift))[-1])
            study.add(f"scratch, shift {shift:g}", steps, seen, prior)
    for steps in (3, 2):
        for k in (2, 3, 4, 5, 6):
            tail = respaced_tail(float(grid[k + 1]), steps, SHIFT)
            seen = study.judge(study.walk(prior_states[k], tail)[-1])
            study.add(f"prior k={k} (sigma {float(grid[k + 1]):.3f}), re-spaced", steps, seen, prior)
    if "exact" in parts:
        for k in (3, 4, 5, 6, 7, 8):
            seen = study.judge(study.walk(prior_states[k], grid[k + 1 :])[-1])
            study.add(f"prior k={k}, exact tail", STEPS - 1 - k, seen, prior)
    if "line" in parts:
        for sigma in (0.833, 0.769):
            start = torch.lerp(prior_states[-1], study.noise, sigma)
            seen = study.judge(study.walk(start, respaced_tail(sigma, 3, SHIFT))[-1])
            study.add(f"line start, sigma {sigma}", 3, seen, prior)
    if "long" in parts:
        long_grid = wan_grid(30, SHIFT)
        study.add("full run of B", 30, study.judge(study.walk(study.noise, long_grid)[-1]), prior)
        long_states = study.walk(study.noise, long_grid, before=True)
        long_prior = study.judge(long_states[-1])
        for k in (4, 5):
            at = 3 * (k + 1) - 1
            tail = respaced_tail(float(long_grid[at + 1]), 3, SHIFT)
            seen = study.judge(study.walk(long_states[at], tail)[-1])
            study.add(f"prior of 30 steps at sigma {float(long_grid[at + 1]):.3f}, re-spaced", 3, seen, long_prior)
    if "grid" in parts:
        own = diffusers_grid(STEPS, SHIFT)
        states = study.walk(study.noise, own, before=True)
        own_prior = study.judge(states[-1])
        study.add("diffusers' grid: full run of B", STEPS, study.judge(study.walk(study.noise, own)[-1]), own_prior)
        for k in (4, 5, 6, 7):
            seen = study.judge(study.walk(states[k], own[k + 1 :])[-1])
            study.add(f"diffusers' grid: prior k={k}, exact tail", STEPS - 1 - k, seen, own_prior)


def open_variance(study: Study, num: int = 200) -> float:
    """The model's mean squared error about the clean latents at sigma .9 to 1, over their variance: what is left open."""
    from demo import nets
    from demo.codec import to_video

    clips = draw_clips(num, seed=8888, identities=IDENTITIES)
    frames = render_all(clips)
    from demo.captions import caption

    sampler, errors, spread = study.sampler, [], []
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for at in range(0, num, 20):
            rows = slice(at, at + 20)
            clean = nets.normalised(sampler.vae.encode(to_video(frames[rows])).latent_dist.mode(), sampler.vae)
            sigma = float(0.9 + 0.1 * torch.rand((), generator=rng))
            noise = torch.randn(clean.shape, generator=rng)
            condition = sampler.condition(frames[rows, 0]) if sampler.takes_image else None
            words = sampler.words([caption(c.identity, c.aspect) for c in clips[rows]])
            mixed = torch.lerp(clean, noise, sigma)
            guess = mixed - sigma * sampler._velocity(mixed, sigma, words, condition)
            errors.append((guess - clean).square().mean((0, 3, 4)))
            spread.append(clean)
    spread = torch.cat(spread).movedim(1, 0).flatten(1).var(1)
    return float(torch.stack(errors).mean() / spread.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=tuple(FOLDERS), required=True)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--reference", type=int, default=400)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--neutral", action="store_true", help="every prior at rest, as sheets record it")
    parser.add_argument("--folder", type=Path, help="a pipeline folder; the shipped one when left out")
    parser.add_argument("--parts", default="seed,line,long", help="of: seed,exact,line,long,grid")
    parser.add_argument("--out", type=Path, help="where to write the raw numbers as JSON")
    options = parser.parse_args()
    began = time.time()
    pairs = draw_pairs(options.pairs, seed=options.seed, neutral=options.neutral)
    study = Study(options.kind, pairs, options.guidance, options.folder or FOLDERS[options.kind], options.reference)
    opened = open_variance(study)
    print(
        f"{options.kind}, guidance {options.guidance:g}, {options.pairs} pairs; open variance {opened:.2f}; FD floor {study.floor:.2f}"
    )
    run(study, set(options.parts.split(",")))
    print(f"{time.time() - began:.0f} s")
    if options.out:
        facts = {"kind": options.kind, "guidance": options.guidance, "pairs": options.pairs, "seed": options.seed}
        facts |= {"open_variance": opened, "fd_floor": study.floor, "aspects": list(ASPECTS)}
        options.out.write_text(json.dumps(facts | {"rows": [asdict(r) for r in study.rows]}, indent=1))


if __name__ == "__main__":
    main()
