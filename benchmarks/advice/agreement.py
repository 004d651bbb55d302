"""Do measures that know nothing of the world agree with the judge that does? `python -m benchmarks.advice.agreement`

1. The inflection: for guidance 4 and 1 on both grids, the latest start step whose variants still follow, by what
   `headstart inflection` measures (share of pairs in which the model sees the variant's prompt, at least .9) and by the judge
   (share that follows, at least .9 of the full run's). 2. The guard: what share it marks of variants that are well, stuck, or told of another identity.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from benchmarks.fidelity.run import RESULTS, SHIFT, STEPS
from demo.model.evaluate import Judged, draw_pairs, first_frames, other_identity
from demo.model.sample import FOLDERS, Sampler, diffusers_grid, respaced_tail, wan_grid
from tasks.making.guard import look
from tasks.settings import GuardSettings
from tasks.studies import likeness

BAR = 0.9
GRIDS = {"wan": wan_grid, "diffusers": diffusers_grid}


def inflection(shares: list[float], bar: float) -> int | None:
    """The latest start step up to which all shares reach the bar."""
    below = [k for k, share in enumerate(shares) if share < bar]
    latest = (below[0] if below else len(shares)) - 1
    return latest if latest >= 0 else None


def compare(kind: str, guidance: float, grid_name: str, count: int, seed: int) -> dict[str, object]:
    """Both inflections of one setting."""
    sampler, pairs = Sampler.load(FOLDERS[kind]), draw_pairs(count, seed=seed, neutral=True)
    condition = sampler.condition(first_frames(pairs)) if sampler.takes_image else None
    noise, grid = sampler.noise([p.seed for p in pairs]), GRIDS[grid_name](STEPS, SHIFT)
    before, after = ([p.asked(before=which) for p in pairs] for which in (True, False))
    more = {"guidance": guidance, "condition": condition}
    states = sampler.walk(noise, grid, before, **more)
    whole = sampler.walk(noise, grid, after, **more)[-1]
    prior, full = sampler.decode(states[-1]), sampler.decode(whole)
    asked_at = min(grid[1:-1].tolist(), key=lambda sigma: abs(sigma - likeness.ASKED_AT_SIGMA))

    def leaning(clean: torch.Tensor) -> list[float]:
        """As `headstart inflection` asks: how much better the model guesses when it is told the variant's prompt."""
        mixed, once = torch.lerp(clean, noise, asked_at), torch.tensor([asked_at, 0.0])
        errors = [
            (sampler.walk(mixed, once, told, guidance=1.0, condition=condition)[-1] - clean).square().flatten(1).mean(1)
            for told in (before, after)
        ]
        return (errors[0] - errors[1]).tolist()

    def judged(frames: np.ndarray) -> float:
        verdicts = Judged.of(frames).verdicts
        return float(np.mean([v.aspect == p.after for v, p in zip(verdicts, pairs, strict=True)]))

    at_prior, at_full = leaning(states[-1]), leaning(whole)
    telling = [i for i in range(count) if likeness.changed(prior[i], full[i]) >= 0.002]
    of_judge, of_likeness, far = [], [], []
    for k in range(STEPS - 1):
        made = sampler.walk(states[k], grid[k + 1 :], after, **more)[-1]
        of_judge.append(judged(sampler.decode(made)))
        leans = leaning(made)
        far.append([likeness.between(leans[i], at_prior[i], at_full[i]) for i in telling])
        of_likeness.append(float(np.mean([one > likeness.FOLLOWS for one in far[-1]])))
    of_full = judged(full)
    found = {
        "kind": kind,
        "guidance": guidance,
        "grid": grid_name,
        "pairs": count,
        "follows_full": of_full,
        "judge": of_judge,
        "likeness": of_likeness,
        "followed": far,
        "inflection_judge": inflection(of_judge, BAR * of_full),
        "inflection_likeness": inflection(of_likeness, BAR),
    }
    print(
        f"| {kind} | {guidance:g} | {grid_name} | {found['inflection_judge']} | {found['inflection_likeness']} "
        f"| {' '.join(f'{share / of_full:.2f}' for share in of_judge)} | {' '.join(f'{share:.2f}' for share in of_likeness)} |",
        flush=True,
    )
    return found


def guard_marks(kind: str, count: int) -> dict[str, object]:
    """Shares of marks on variants that are well, stuck, and told of another identity."""
    sampler, pairs = Sampler.load(FOLDERS[kind]), draw_pairs(count, seed=12, neutral=True)
    condition = sampler.condition(first_frames(pairs)) if sampler.takes_image else None
    grid, guard = wan_grid(STEPS, SHIFT), GuardSettings(enabled=True)
    more = {"guidance": 4.0, "condition": condition}
    states = sampler.walk(sampler.noise([p.seed for p in pairs]), grid, [p.asked(before=True) for p in pairs], **more)
    ways = {
        "well (k=3 in 3)": (3, respaced_tail(float(grid[4]), 3, SHIFT), pairs),
        "stuck (k=8, exact)": (8, grid[9:], pairs),
        "another identity (k=2 in 3)": (2, respaced_tail(float(grid[3]), 3, SHIFT), [other_identity(p) for p in pairs]),
    }
    found: dict[str, object] = {"kind": kind, "pairs": count}
    for name, (k, tail, told) in ways.items():
        made = sampler.walk(states[k], tail, [p.asked(before=False) for p in told], **more)[-1]
        marks = [look(made[i : i + 1], states[-1][i : i + 1], guard, started=k).mark for i in range(count)]
        shares = {word: marks.count(word) / count for word in ("lost its identity", "did not move away from its prior")}
        found[name] = shares
        print(f"| {kind} | {name} | " + " | ".join(f"{share:.2f}" for share in shares.values()) + " |", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=tuple(FOLDERS), action="append", help="both when left out")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print("| kind | guidance | grid | judge | likeness | judge's share / full, k=0.. | likeness' share, k=0.. |")
    print("|---|---|---|---|---|---|---|")
    kinds = chosen.kind or list(FOLDERS)
    agreement = {
        kind: [compare(kind, guidance, grid, chosen.pairs, chosen.seed) for guidance in (4.0, 1.0) for grid in GRIDS]
        for kind in kinds
    }
    print("\n| kind | variants | marked lost | marked stuck |\n|---|---|---|---|")
    chosen.out.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        found = {"inflection": agreement[kind], "guard": guard_marks(kind, chosen.pairs)}
        (chosen.out / f"{kind}-agreement.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
