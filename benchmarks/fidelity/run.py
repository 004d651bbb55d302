"""What a prior is worth on the demo model, beside the controls: `make fidelity`, or one part of it:
`python -m benchmarks.fidelity.run --kind t2v --part rest`. Raw numbers go to benchmarks/results/fidelity/.

Every row of a part runs the same pairs from the same noise. `follows` is the share of clips whose aspect the judge sees
as asked, `identity` likewise, `FD` the Frechet distance of plain features to real clips that went through the VAE, `detail`
the texture energy over theirs, `kept` the high-band agreement of the scene with the prior's. Half-widths are 95 % (Wilson
for shares, bootstrap over pairs for FD, normal for means). Steps are those that the row itself runs; a prior's are paid once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.fidelity.study import HEAD, Study, as_line, open_variance
from demo.model.evaluate import draw_pairs, other_identity
from demo.model.sample import FOLDERS, diffusers_grid, respaced_tail, wan_grid
from demo.world.clips import ASPECTS, noise_seed

STEPS = 10
SHIFT = 5.0
RESULTS = Path(__file__).parents[1] / "results" / "fidelity"


def controls(study: Study, *, scratch: Sequence[int] = (3, 2), shifts: Sequence[float] = (1.0, 3.0, 5.0, 8.0)) -> None:
    """The prior, the full run of the same prompt, the same few steps from scratch: without these no number means much."""
    grid = wan_grid(STEPS, SHIFT)
    study.record(grid)
    study.add("full run of B", study.from_noise(grid), steps=STEPS)
    from_scratch(study, scratch, shifts)


def from_scratch(study: Study, counts: Sequence[int], shifts: Sequence[float]) -> None:
    """Few steps without a prior, by several shifts."""
    for steps in counts:
        # One step is one step, whatever the shift.
        for shift in shifts if steps > 1 else (SHIFT,):
            study.add(f"scratch, shift {shift:g}", study.from_noise(wan_grid(steps, shift)), steps=steps)


def respaced(
    study: Study, starts: Sequence[int], counts: Sequence[int], *, steps: int = STEPS, line: bool = False
) -> None:
    """Variants that walk the noise left after `k` in a few even steps; `steps` is the prior's own number.

    They start from the snapshot, or (`line`) as noisy on the straight line.
    """
    grid = wan_grid(steps, SHIFT)
    word = "" if steps == STEPS else f" of {steps} steps"
    for count in counts:
        for k in starts:
            at = (k + 1) * steps // STEPS - 1
            sigma = float(grid[at + 1])
            tail = respaced_tail(sigma, count, SHIFT)
            made = study.from_line(sigma, tail) if line else study.from_prior(at, tail)
            how = "straight line" if line else "re-spaced"
            study.add(f"prior{word} k={at} (sigma {sigma:.3f}), {how}", made, steps=count)


def exact(study: Study, starts: Sequence[int], grid: torch.Tensor, word: str = "prior") -> None:
    """Variants that walk what is left of the prior's own schedule."""
    for k in starts:
        study.add(f"{word} k={k}, exact tail", study.from_prior(k, grid[k + 1 :]), steps=len(grid) - 2 - k)


def rest(study: Study) -> None:
    """Priors at rest, as sheets record them by their base prompt: the main table."""
    controls(study)
    from_scratch(study, (1, 4, 5), (3.0, 5.0, 8.0))
    other = study.sampler.noise([noise_seed("other", p.seed) for p in study.pairs])
    study.add("full run of B, other noise", study.walk(other, wan_grid(STEPS, SHIFT)), steps=STEPS)
    exact(study, range(9), wan_grid(STEPS, SHIFT))
    respaced(study, (2, 3, 4, 5, 6), (3, 2))
    respaced(study, (4, 5), (1,))
    respaced(study, (3, 4, 5, 6), (3, 2), line=True)
    respaced(study, (4, 5), (1,), line=True)


def moving(study: Study) -> None:
    """Priors that do something else than the variant is told: harder, since what was done must be undone."""
    controls(study, shifts=(3.0, 5.0, 8.0))
    exact(study, (3, 4, 5, 6), wan_grid(STEPS, SHIFT))
    respaced(study, (2, 3, 4, 5), (3, 2))
    respaced(study, (2, 3, 4), (3, 2), line=True)


def longer(study: Study) -> None:
    """Full runs of more steps, and variants of priors that had more steps."""
    from_scratch(study, (3, 2), (3.0, 8.0))
    for steps in (20, 30, 50):
        grid = wan_grid(steps, SHIFT)
        study.record(grid)
        study.add("full run of B", study.from_noise(grid), steps=steps)
        if steps > 20:
            respaced(study, (4, 5), (3, 2), steps=steps)
            respaced(study, (3, 4, 5), (3, 2), steps=steps, line=True)


def plain_guidance(study: Study) -> None:
    """The same at another guidance."""
    controls(study, scratch=(3,), shifts=(1.0, 3.0, 5.0))
    exact(study, (2, 3, 4, 5, 6, 7), wan_grid(STEPS, SHIFT))
    respaced(study, (2, 3, 4, 5), (3,))
    respaced(study, (2, 3, 4, 5), (3,), line=True)


def own_grid(study: Study) -> None:
    """Diffusers' own grid, which ends almost at zero before its last step."""
    grid = diffusers_grid(STEPS, SHIFT)
    study.record(grid)
    study.add("full run of B", study.from_noise(grid), steps=STEPS)
    study.add("scratch, its own grid", study.from_noise(diffusers_grid(3, SHIFT)), steps=3)
    exact(study, range(1, 8), grid)
    for k in (3, 4, 5):
        tail = respaced_tail(float(grid[k + 1]), 3, SHIFT)
        study.add(f"prior k={k} (sigma {float(grid[k + 1]):.3f}), re-spaced", study.from_prior(k, tail), steps=3)
        line = study.from_line(float(grid[k + 1]), tail)
        study.add(f"prior k={k} (sigma {float(grid[k + 1]):.3f}), straight line", line, steps=3)


def unipc(study: Study) -> None:
    """Second-order UniPC throughout; tails start with a fresh history, exact ones also with the prior's."""
    study.unipc = True
    controls(study, scratch=(3, 2), shifts=(3.0, 5.0))
    histories(study)
    respaced(study, (4, 5), (3, 2))
    respaced(study, (4, 5), (3, 2), line=True)


def histories(study: Study) -> None:
    """Exact tails of a solver that remembers: with the prior's memory, and without."""
    grid = wan_grid(STEPS, SHIFT)
    exact(study, (3, 4, 5, 6), grid, "prior, fresh history,")
    for k in (3, 4, 5, 6):
        made = study.walk(study.noise, grid, a_until=k)
        study.add(f"prior, its history kept, k={k}, exact tail", made, steps=STEPS - 1 - k)


def two_stages(study: Study) -> None:
    """One large step from an early start, then the straight line again from what it made, later."""
    grid = wan_grid(STEPS, SHIFT)
    for k, later, count in ((3, 5, 2), (3, 6, 2), (4, 6, 2), (3, 5, 1), (3, 6, 1), (4, 6, 1)):
        early, late = float(grid[k + 1]), float(grid[later + 1])
        first = study.from_line(early, respaced_tail(early, 1, SHIFT))
        made = study.walk(torch.lerp(first, study.noise, late), respaced_tail(late, count, SHIFT))
        study.add(f"two stages: straight line k={k} in 1, then k={later} in {count}", made, steps=count + 1)


def swap(study: Study) -> None:
    """The prompt names another identity, at rest: `follows` stays still, `identity` is the one asked for."""
    controls(study, scratch=(3,), shifts=(5.0,))
    respaced(study, (1, 2, 3, 4, 5, 6), (3,))
    respaced(study, (1, 2, 3, 4, 5), (3,), line=True)


def options(study: Study) -> None:
    """What might win more at three, two and one step."""
    grid = wan_grid(STEPS, SHIFT)
    controls(study, scratch=(3, 2), shifts=(8.0,))
    respaced(study, (4, 5), (3, 2))
    main = study.guidance
    for k, first, count in ((4, 6.0, 2), (5, 6.0, 3), (5, 8.0, 3), (5, 8.0, 2), (6, 8.0, 3), (6, 12.0, 3)):
        scales = [first] + [main] * (count - 1)
        made = study.from_prior(k, respaced_tail(float(grid[k + 1]), count, SHIFT), guidance=scales)
        study.add(f"prior k={k}, first step at guidance {first:g}", made, steps=count)
    for k in (4, 5):
        for shift in (2.0, 9.0):
            for count in (3, 2):
                made = study.from_prior(k, respaced_tail(float(grid[k + 1]), count, shift))
                study.add(f"prior k={k}, tail re-spaced by shift {shift:g}", made, steps=count)
    other = study.sampler.noise([noise_seed("other", p.seed) for p in study.pairs])
    start = torch.lerp(study.states[-1], other, float(grid[5]))
    made = study.walk(start, respaced_tail(float(grid[5]), 3, SHIFT))
    study.add("straight line from k=4 to other noise", made, steps=3)
    middle = torch.lerp(torch.lerp(study.states[-1], study.noise, float(grid[5])), study.states[4], 0.5)
    for count in (3, 2):
        made = study.walk(middle, respaced_tail(float(grid[5]), count, SHIFT))
        study.add("half-way between snapshot k=4 and straight line", made, steps=count)
    two_stages(study)


# part: what it runs, guidance, whether priors are at rest.
PARTS: dict[str, tuple[Callable[[Study], None], float, bool]] = {
    "rest": (rest, 4.0, True),
    "guidance-1": (plain_guidance, 1.0, True),
    "diffusers-grid": (own_grid, 4.0, True),
    "longer": (longer, 4.0, True),
    "moving": (moving, 4.0, False),
    "options": (options, 4.0, True),
    "swap": (swap, 4.0, True),
    "unipc": (unipc, 4.0, True),
    "guidance-3": (plain_guidance, 3.0, True),
    "guidance-5": (plain_guidance, 5.0, True),
    "diffusers-grid-guidance-1": (own_grid, 1.0, True),
}


def run(kind: str, part: str, pairs: int, seed: int, folder: Path, out: Path) -> None:
    """One part of one kind, printed as it goes and kept as JSON."""
    began = time.time()
    make, guidance, at_rest = PARTS[part]
    drawn = draw_pairs(pairs, seed=seed, neutral=at_rest)
    if part == "swap":
        drawn = [other_identity(pair) for pair in drawn]
    study = Study(kind, drawn, guidance, folder)
    print(f"\n{kind}, {part}: guidance {guidance:g}, {pairs} pairs; FD floor {study.floor:.2f}")
    print(HEAD, flush=True)
    study.say = lambda row: print(as_line(row), flush=True)
    make(study)
    facts = {"kind": kind, "part": part, "guidance": guidance, "pairs": pairs, "seed": seed, "at_rest": at_rest}
    facts |= {"fd_floor": study.floor, "aspects": list(ASPECTS), "seconds": time.time() - began}
    if part == "rest":
        facts["open_variance"] = open_variance(study)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{kind}-{part}.json").write_text(
        json.dumps(facts | {"rows": [asdict(row) for row in study.rows]}, indent=1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=tuple(FOLDERS), action="append", help="both when left out")
    parser.add_argument("--part", choices=tuple(PARTS), action="append", help="all when left out")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="a pipeline folder; the shipped one when left out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for part in chosen.part or PARTS:
        for kind in chosen.kind or FOLDERS:
            run(kind, part, chosen.pairs, chosen.seed, chosen.folder or FOLDERS[kind], chosen.out)


if __name__ == "__main__":
    main()
