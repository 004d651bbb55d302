"""How far the judge can be trusted: its errors on real clips and on clips through the VAE: `python -m benchmarks.fidelity.judge`."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np

from demo.model.codec import load_vae
from demo.model.evaluate import Judged, accuracy, confusion, half_width, through_vae
from demo.model.sample import FOLDERS, Sampler
from demo.world import scene
from demo.world.clips import ASPECTS, IDENTITIES, draw_clips, render_all
from demo.world.whole import RULERS


def all_frames(seen: Judged, does: list[str]) -> list[str]:
    """What the measures over all frames say of clips that do exactly as asked."""
    rows = list(zip(seen.verdicts, does, strict=True))
    low, high = 0.01, 0.99
    measures = [
        ([v.face(a) for v, a in rows], low),
        ([v.outline for v, _ in rows], low),
        ([v.off_course(a) for v, a in rows], high),
        ([v.jitter(a) for v, a in rows], high),
    ]
    shares = f"{np.mean([v.does(a) for v, a in rows]):.3f}"
    return [shares, *(f"{np.mean(values):.3f} ({np.quantile(values, worst):.2f})" for values, worst in measures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=330)
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--training", type=Path, help="a training folder; the shipped VAE when left out")
    options = parser.parse_args()
    vae = load_vae(options.training, "vae.safetensors") if options.training else Sampler.load(FOLDERS["t2v"]).vae
    clips = draw_clips(options.clips, seed=options.seed, identities=IDENTITIES)
    frames = render_all(clips)
    who, does = [c.identity for c in clips], [c.aspect for c in clips]
    decoded = through_vae(vae, frames)
    real, recon = Judged.of(frames / 255), Judged.of(decoded)
    quality = [scene.psnr(a, b / 255) for a, b in zip(decoded, frames, strict=True)]
    print(
        f"VAE: PSNR {np.mean(quality):.2f} dB, worst {np.min(quality):.2f}, 5 % below {np.quantile(quality, 0.05):.2f}"
    )
    print("\n| clips | identity | aspect | detail | ghost |\n|---|---|---|---|---|")
    for name, seen in (("real", real), ("through the VAE", recon)):
        shares = accuracy(seen, who, does)
        print(
            f"| {name} ({len(clips)}) | {shares['identity']:.3f} | {shares['aspect']:.3f} "
            f"±{half_width(shares['aspect'], len(clips)):.3f} | {shares['detail'] * 1e4:.2f}e-4 | {shares['ghost']:.4f} |"
        )
    print(
        "\nall frames, mean (worst of 100)\n\n| clips | does as asked | face | outline | off course | jitter |\n|---|---|---|---|---|---|"
    )
    for name, seen in (("real", real), ("through the VAE", recon)):
        print(f"| {name} ({len(clips)}) | " + " | ".join(all_frames(seen, does)) + " |")
    print("\nrulers, mean ± spread, real / through the VAE\n\n| aspect | " + " | ".join(RULERS) + " |\n|" + "---|" * 7)
    for aspect in ASPECTS:
        cells = []
        for ruler in range(len(RULERS)):
            pair = [
                np.array([v.rulers[ruler] for v, a in zip(s.verdicts, does, strict=True) if a == aspect])
                for s in (real, recon)
            ]
            cells.append(" / ".join(f"{x.mean():.2f}±{x.std():.2f}" for x in pair))
        print(f"| {aspect} | " + " | ".join(cells) + " |")
    print("\nseen (columns) for asked (rows), through the VAE\n\n| | " + " | ".join(ASPECTS) + " |\n|" + "---|" * 12)
    for aspect, row in zip(ASPECTS, confusion(recon, does), strict=True):
        print(f"| {aspect} | " + " | ".join(str(n or "") for n in row) + " |")
    half = len(clips) // 2
    print(f"\nFD, real against real (halves): {scene.frechet(real.features[:half], real.features[half:]):.2f}")
    print(f"FD, VAE against VAE (halves): {scene.frechet(recon.features[:half], recon.features[half:]):.2f}")
    print(f"FD, VAE against real: {scene.frechet(recon.features, real.features):.2f}")
    pairs = list(zip(decoded, recon.verdicts, frames / 255, real.verdicts, strict=True))
    print(
        f"kept, VAE against its own real clip: {np.mean([scene.kept(a, v.body, b, w.body) for a, v, b, w in pairs]):.3f}"
    )
    others = [scene.kept(a, v.body, b, w.body) for (a, v, _, _), (_, _, b, w) in pairwise(pairs)]
    print(f"kept, against another clip: {np.mean(others):.3f}")


if __name__ == "__main__":
    main()
