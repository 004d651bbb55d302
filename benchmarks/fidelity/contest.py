"""Difference against straight line: which walk makes a variant from a long prior, in how few steps, at which guidance?

    python -m benchmarks.fidelity.contest choose --kind t2v     many settings, few pairs: to choose by
    python -m benchmarks.fidelity.contest quote --kind t2v      the chosen ones, fresh pairs, other phrasings: to quote
    python -m benchmarks.fidelity.contest confirm --kind t2v    a third draw: what the quoted pairs suggested; other trainings
    python -m benchmarks.fidelity.contest swap --kind t2v       variants told of another colour or shape

A run that broke off goes on with what its file lacks; take the file away to measure anew.

Every setting runs the same pairs from the same noise and stands beside the full run of 30 steps on the same clips.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.fidelity.contest_settings import (
    GUIDANCE,
    LONG,
    Setting,
    to_choose_by,
    to_confirm,
    to_quote,
    to_swap,
)
from benchmarks.fidelity.paired import Marks, Real, beside, told
from demo.model.evaluate import Judged, Pair, draw_pairs, first_frames, other_identity, through_vae
from demo.model.sample import FOLDERS, Sampler, respaced_tail, wan_grid
from demo.world.clips import IDENTITIES, draw_clips, render_all

RESULTS = Path(__file__).parents[1] / "results" / "fidelity"
SHIFT = 5.0
BATCH = 20
REFERENCE = Setting(how="full", steps=LONG)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A purpose: its settings and its pairs, which no other stage has seen, in phrasings of its own."""

    settings: Callable[[], Iterator[Setting]]
    pairs: int
    seed: int
    phrasings: tuple[int, ...] = (1, 2)
    swaps: bool = False


STAGES = {
    "choose": Stage(settings=to_choose_by, pairs=64, seed=41, phrasings=(0,)),
    "quote": Stage(settings=to_quote, pairs=200, seed=43),
    "confirm": Stage(settings=to_confirm, pairs=200, seed=47),
    "swap": Stage(settings=to_swap, pairs=200, seed=53, swaps=True),
}


class Contest:
    """Pairs of one kind, the priors that were recorded for them, and how their clips are made."""

    def __init__(self, pairs: list[Pair], folder: Path, device: str = "cpu") -> None:
        self.pairs, self.sampler = pairs, Sampler.load(folder, device)
        self.condition = self.sampler.condition(first_frames(pairs)) if self.sampler.takes_image else None
        self.noise = self.sampler.noise([pair.seed for pair in pairs])
        self._records: dict[int, list[torch.Tensor]] = {}

    @cached_property
    def real(self) -> Real:
        """Real clips through the VAE."""
        clips = render_all(draw_clips(400, seed=7777, identities=IDENTITIES))
        return Real.of(Judged.of(through_vae(self.sampler.vae, clips)))

    @cached_property
    def prior(self) -> Judged:
        """What the priors show."""
        return Judged.of(self.sampler.decode(self.record(LONG)[-1]))

    def record(self, steps: int) -> list[torch.Tensor]:
        """The latents of the priors at every sigma of their grid, the first noise first."""
        if steps not in self._records:
            walked = self._walk(self.noise, wan_grid(steps, SHIFT), GUIDANCE, before=True)
            self._records[steps] = [self.noise, *walked]
        return self._records[steps]

    def made(self, setting: Setting) -> Judged:
        """The clips of a setting, judged."""
        return Judged.of(self.sampler.decode(self._latents(setting)))

    def _latents(self, setting: Setting) -> torch.Tensor:
        if not setting.prior:
            return self._walk(self.noise, wan_grid(setting.steps, SHIFT), setting.guidance)[-1]
        record, grid = self.record(setting.prior), wan_grid(setting.prior, SHIFT)
        at = int((grid - setting.sigma).abs().argmin())
        tail = respaced_tail(float(grid[at]), setting.steps, SHIFT)
        if setting.how == "difference":
            return self._difference(record, grid, tail, setting.guidance)
        start = record[at] if setting.how == "resume" else torch.lerp(record[-1], self.noise, float(grid[at]))
        return self._walk(start, tail, setting.guidance)[-1]

    def _difference(
        self, record: list[torch.Tensor], grid: torch.Tensor, tail: torch.Tensor, guidance: float
    ) -> torch.Tensor:
        """Walk only what the variant wants otherwise than its prior, in few coarse steps along the prior's fine record."""
        stops = [int((grid - sigma).abs().argmin()) for sigma in tail]
        prompts, made = [pair.asked(before=False) for pair in self.pairs], []
        for first in range(0, len(prompts), BATCH):
            rows = slice(first, first + BATCH)
            condition = None if self.condition is None else self.condition[rows]
            said, unsaid = self.sampler.words(prompts[rows]), self.sampler.words([""] * len(prompts[rows]))
            ahead = torch.zeros_like(self.noise[rows])
            for at, to in pairwise(stops):
                sigma, here = float(grid[at]), record[at][rows]
                theirs = (record[at + 1][rows] - here) / float(grid[at + 1] - grid[at])
                ours = self.sampler.velocity(here + ahead, sigma, said, condition)
                base = self.sampler.velocity(here + ahead, sigma, unsaid, condition)
                ours = base + guidance * (ours - base)
                ahead = ahead + float(grid[to] - grid[at]) * (ours - theirs)
            made.append(record[-1][rows] + ahead)
        return torch.cat(made)

    def _walk(
        self, start: torch.Tensor, sigmas: torch.Tensor, guidance: float, *, before: bool = False
    ) -> list[torch.Tensor]:
        prompts = [pair.asked(before=before) for pair in self.pairs]
        return self.sampler.walk(start, sigmas, prompts, guidance=guidance, condition=self.condition, batch=BATCH)


def run(kind: str, stage: str, folder: Path, out: Path, word: str, pairs: int | None, device: str) -> None:
    """One stage of one kind: printed as it goes, and kept."""
    began, plan = time.time(), STAGES[stage]
    settings = list(plan.settings())
    drawn = draw_pairs(pairs or plan.pairs, seed=plan.seed, neutral=True, phrasings=plan.phrasings)
    if plan.swaps:
        drawn = [other_identity(pair) for pair in drawn]
    contest = Contest(drawn, folder, device)
    path = out / f"contest-{stage}-{kind}{word}.json"
    # What is there was measured on the same pairs; only the clips that all are compared with are made again.
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    there, reference = {row["name"] for row in rows}, None
    with torch.no_grad():
        for setting in settings:
            if setting.name in there and setting != REFERENCE:
                continue
            marks = Marks.of(contest.made(setting), drawn, contest.prior)
            reference = marks if setting == REFERENCE else reference
            assert reference is not None, "the reference comes first"
            row = asdict(setting) | {"name": setting.name} | told(marks, contest.real)
            row["beside_full_30"] = beside(marks, reference, contest.real)
            if setting.name in there:
                continue
            rows.append(row)
            print(_line(row), flush=True)
            facts = {
                "kind": kind,
                "stage": stage,
                "device": device,
                "pairs": len(drawn),
                "seconds": time.time() - began,
                "rows": rows,
            }
            out.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(facts, indent=1))


def _line(row: dict) -> str:
    against = row["beside_full_30"]
    ratio, face = against["fd_ratio"], against["face"]
    return (
        f"| {row['name']} | {row['follows']:.3f} | {row['identity']:.3f} | {row['fd']:.2f} "
        f"| {ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}] | {against['fd_all_ratio'][0]:.2f} "
        f"| {face[0]:+.3f} [{face[1]:+.3f}, {face[2]:+.3f}] | {against['off_course'][0]:+.3f} | {against['jitter'][0]:+.3f} "
        f"| {row['kept']:.3f} | {row['spread']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=tuple(STAGES))
    parser.add_argument("--kind", choices=tuple(FOLDERS), required=True)
    parser.add_argument("--folder", type=Path, help="a pipeline folder; the shipped one when left out")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--word", default="", help="what the name of the result ends in, such as the training")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    run(
        chosen.kind,
        chosen.stage,
        chosen.folder or FOLDERS[chosen.kind],
        chosen.out,
        chosen.word,
        chosen.pairs,
        chosen.device,
    )


if __name__ == "__main__":
    main()
