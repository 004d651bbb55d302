"""What `headstart inflection` would advise, before a judge who knows the truth: `python -m benchmarks.advice.advised`

Some pairs are studied as the command does: every start step, tail and guidance, by measures that know nothing of this world.
Its answer then makes variants of fresh pairs, and the judge compares them with full runs of the same clips. With --all the
judge is asked about every way that was tried, on the pairs of the study: that is what a measure can be chosen by.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cached_property
from pathlib import Path

import torch

from benchmarks.fidelity.contest import RESULTS, SHIFT, Contest
from benchmarks.fidelity.contest_settings import GUIDANCE
from benchmarks.fidelity.paired import Marks, beside, told
from demo.model.evaluate import Judged, draw_pairs
from demo.model.sample import FOLDERS, diffusers_grid, respaced_tail, wan_grid
from tasks.settings import InflectionSettings
from tasks.studies import likeness
from tasks.studies.conclusion import Bar, concluded
from tasks.studies.pair import Trial, trials_of

STEPS, LESS = 10, 2.5
GRIDS = {"wan": wan_grid, "diffusers": diffusers_grid}
WANTED = InflectionSettings()


class Bench(Contest):
    """Pairs whose variants are made in the ways that a study tries."""

    def __init__(self, kind: str, grid: str, count: int, seed: int) -> None:
        super().__init__(draw_pairs(count, seed=seed, neutral=True, phrasings=(1, 2)), FOLDERS[kind])
        self.grid, self.lay = GRIDS[grid](STEPS, SHIFT), GRIDS[grid]
        self.states = self._walk(self.noise, self.grid, GUIDANCE, before=True)
        self.full = self._walk(self.noise, self.grid, GUIDANCE)[-1]
        self.inner = self.grid[1:-1].tolist()

    def latents(self, trial: Trial) -> torch.Tensor:
        """The end of a trial's walk."""
        if trial.start_step is None:
            return self._walk(self.noise, self.lay(trial.steps, SHIFT), GUIDANCE)[-1]
        at = trial.start_step
        sigma = float(self.grid[at + 1])
        tail = self.grid[at + 1 :] if trial.tail == "exact" else respaced_tail(sigma, trial.steps, SHIFT)
        start = torch.lerp(self.states[-1], self.noise, sigma) if trial.start == "line" else self.states[at]
        return self._walk(start, tail, GUIDANCE if trial.guidance is None else trial.guidance)[-1]

    def leaning(self, clean: torch.Tensor) -> list[float]:
        """Which of the two prompts the model sees in it."""
        asked_at = min(self.inner, key=lambda sigma: abs(sigma - likeness.ASKED_AT_SIGMA))
        mixed, once = torch.lerp(clean, self.noise, asked_at), torch.tensor([asked_at, 0.0])
        errors = [
            (self._walk(mixed, once, 1.0, before=before)[-1] - clean).square().flatten(1).mean(1)
            for before in (True, False)
        ]
        return (errors[0] - errors[1]).tolist()

    def marks(self, latents: torch.Tensor) -> Marks:
        """The judge's."""
        return Marks.of(Judged.of(self.sampler.decode(latents)), self.pairs, self.priors)

    @cached_property
    def priors(self) -> Judged:
        """What the priors show."""
        return Judged.of(self.sampler.decode(self.states[-1]))


def studied(bench: Bench, trials: tuple[Trial, ...], *, judged: bool) -> tuple[dict, dict]:
    """The record of a study, and by trial what the judge says, where it is asked."""
    prior, full = bench.sampler.decode(bench.states[-1]), bench.sampler.decode(bench.full)
    ends = bench.leaning(bench.states[-1]), bench.leaning(bench.full)
    tried = [{} for _ in bench.pairs]
    said, of_full = {}, bench.marks(bench.full) if judged else None
    for trial in trials:
        latents = bench.latents(trial)
        videos, leans = bench.sampler.decode(latents), bench.leaning(latents)
        for at, video in enumerate(videos):
            tried[at][trial.name] = {
                "followed": likeness.between(leans[at], ends[0][at], ends[1][at]),
                "first": likeness.explained(video[:1], prior[at][:1]),
                "layout": likeness.layout(video, prior[at], full[at]),
                "detail": likeness.detail(video),
                "seconds": 0.0,
            }
        if of_full is not None:
            marks = bench.marks(latents)
            said[trial.name] = told(marks, bench.real) | {"beside_full": beside(marks, of_full, bench.real)}
    pairs = [
        {
            "pair": str(at),
            "identity": str(at),
            "changed": likeness.changed(prior[at], full[at]),
            "detail_full": likeness.detail(full[at]),
            "kept_full": [
                likeness.explained(full[at][:1], prior[at][:1]),
                likeness.layout(full[at], prior[at], full[at]),
            ],
            "seconds_full": 0.0,
            "sigmas": {str(k): float(sigma) for k, sigma in enumerate(bench.grid[1:])},
            "settings": tried[at],
        }
        for at in range(len(bench.pairs))
    ]
    return concluded(pairs, trials, Bar(follow=WANTED.follow, detail=WANTED.detail)), said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=tuple(FOLDERS), action="append", help="both when left out")
    parser.add_argument("--grid", choices=tuple(GRIDS), action="append", help="both when left out")
    parser.add_argument("--study", type=int, default=8, help="pairs that are studied")
    parser.add_argument("--pairs", type=int, default=100, help="fresh pairs that are judged")
    parser.add_argument("--seed", type=int, default=61)
    parser.add_argument("--all", action="store_true", help="ask the judge about every way, on the pairs of the study")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    trials = trials_of(STEPS, None, WANTED.tails, WANTED.starts, (None, LESS))
    found = []
    with torch.no_grad():
        for kind in chosen.kind or list(FOLDERS):
            for grid in chosen.grid or list(GRIDS):
                began = time.time()
                record, said = studied(Bench(kind, grid, chosen.study, chosen.seed), trials, judged=chosen.all)
                advice = record["advice"]
                row = {
                    "kind": kind,
                    "grid": grid,
                    "study": chosen.study,
                    "advice": advice,
                    "lines": record["lines"],
                    "judge": said,
                }
                if advice["start_step"] is not None:
                    names = ("start_step", "tail", "start", "guidance", "steps")
                    fresh = Bench(kind, grid, chosen.pairs, chosen.seed + 1)
                    marks, full = (
                        fresh.marks(fresh.latents(Trial(**{n: advice[n] for n in names}))),
                        fresh.marks(fresh.full),
                    )
                    row |= {
                        "pairs": chosen.pairs,
                        "of_advised": told(marks, fresh.real),
                        "of_full": told(full, fresh.real),
                        "beside_full": beside(marks, full, fresh.real),
                    }
                    against = row["beside_full"]
                    print(
                        f"| {kind} | {grid} | k={advice['start_step']} {advice['start']} in {advice['steps']} (tail {advice['tail']}), guidance {advice['guidance'] or GUIDANCE:g} "
                        f"| {advice['certainty'] or 0:.2f} | {row['of_advised']['follows']:.3f} / {row['of_full']['follows']:.3f} "
                        f"| {against['fd_ratio'][0]:.2f} [{against['fd_ratio'][1]:.2f}, {against['fd_ratio'][2]:.2f}] "
                        f"| {against['face'][0]:+.3f} [{against['face'][1]:+.3f}, {against['face'][2]:+.3f}] |",
                        flush=True,
                    )
                found.append(row | {"seconds": time.time() - began})
                chosen.out.mkdir(parents=True, exist_ok=True)
                (chosen.out / "advised.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
