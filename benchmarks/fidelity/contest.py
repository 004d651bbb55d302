"""Difference against straight line: which walk makes a variant from a long prior, in how few steps, at which guidance?

    python -m benchmarks.fidelity.contest choose --kind t2v     many settings, few pairs: to choose by
    python -m benchmarks.fidelity.contest quote --kind t2v      the chosen ones, fresh pairs, other phrasings: to quote

A run that broke off goes on with what its file lacks; take the file away to measure anew.

Every setting runs the same pairs from the same noise and stands beside the full run of 30 steps on the same clips.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise, product
from pathlib import Path

import torch

from benchmarks.fidelity.paired import Marks, Real, beside, told
from demo.model.evaluate import Judged, Pair, draw_pairs, first_frames, other_identity, through_vae
from demo.model.sample import FOLDERS, Sampler, respaced_tail, wan_grid
from demo.world.clips import IDENTITIES, draw_clips, render_all

RESULTS = Path(__file__).parents[1] / "results" / "fidelity"
GUIDANCE, SHIFT, LONG = 4.0, 5.0, 30
BATCH = 20


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to make the variant. `full` and `scratch` use no prior; the others start at `sigma` of one."""

    how: str
    steps: int
    guidance: float = GUIDANCE
    prior: int = 0
    sigma: float = 1.0

    @property
    def name(self) -> str:
        """How the table calls it."""
        if self.prior:
            return f"{self.how}, prior of {self.prior}, sigma {self.sigma:.3f}, guidance {self.guidance:g}, {self.steps} steps"
        return f"{self.how}, guidance {self.guidance:g}, {self.steps} steps"


REFERENCE = Setting(how="full", steps=LONG)
CONTROLS = [
    *(Setting(how="full", steps=LONG, guidance=g) for g in (4.0, 3.0, 2.5, 2.0)),
    *(Setting(how="full", steps=10, guidance=g) for g in (4.0, 3.0)),
    *(Setting(how="scratch", steps=n, guidance=g) for n, g in product((4, 3), (4.0, 2.5))),
]


def to_choose_by() -> Iterator[Setting]:
    """The grid that is looked through."""
    yield from CONTROLS
    for steps, scale, sigma in product((4, 3, 2), (4.0, 3.0, 2.5), (0.769, 0.833, 0.882)):
        for how in ("difference", "line"):
            yield Setting(how=how, prior=LONG, sigma=sigma, guidance=scale, steps=steps)
    for how in ("difference", "line"):
        for prior, scale, steps in product((10, 50), (4.0, 3.0), (4, 3)):
            yield Setting(how=how, prior=prior, sigma=0.833, guidance=scale, steps=steps)
        for scale in (4.0, 3.0, 2.5, 2.0):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=1)
        for scale in (4.0, 3.0):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=5)


def to_quote() -> Iterator[Setting]:
    """What was chosen, and its neighbours in steps and length of the prior."""
    yield from CONTROLS
    for steps, scale in product((4, 3, 2), (4.0, 3.0, 2.5)):
        for how in ("difference", "line"):
            yield Setting(how=how, prior=LONG, sigma=0.833, guidance=scale, steps=steps)
    for how, scale, steps in product(("difference", "line"), (3.0, 2.5), (4, 3)):
        yield Setting(how=how, prior=LONG, sigma=0.882, guidance=scale, steps=steps)
    for steps, scale in ((3, 2.0), (2, 2.0), (1, 2.0)):
        yield Setting(how="line", prior=LONG, sigma=0.833, guidance=scale, steps=steps)
    for prior, steps in product((10, 20, 50), (4, 3)):
        yield Setting(how="line", prior=prior, sigma=0.833, guidance=2.5, steps=steps)
    yield Setting(how="difference", prior=50, sigma=0.833, guidance=2.5, steps=4)
    yield Setting(how="resume", prior=LONG, sigma=0.833, steps=3)
    yield Setting(how="resume", prior=LONG, sigma=0.833, guidance=2.5, steps=3)


class Contest:
    """Pairs of one kind, the priors that were recorded for them, and how their clips are made."""

    def __init__(self, pairs: list[Pair], folder: Path) -> None:
        self.pairs, self.sampler = pairs, Sampler.load(folder)
        self.condition = self.sampler.condition(first_frames(pairs)) if self.sampler.takes_image else None
        self.noise = self.sampler.noise([pair.seed for pair in pairs])
        self._records: dict[int, list[torch.Tensor]] = {}
        real = render_all(draw_clips(400, seed=7777, identities=IDENTITIES))
        self.real = Real.of(Judged.of(through_vae(self.sampler.vae, real)))
        self.prior = Judged.of(self.sampler.decode(self.record(LONG)[-1]))

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


def run(kind: str, stage: str, folder: Path, out: Path, word: str, pairs: int | None) -> None:
    """One stage of one kind: printed as it goes, and kept."""
    began = time.time()
    settings = list(to_choose_by() if stage == "choose" else to_quote())
    drawn = draw_pairs(
        pairs or (64 if stage == "choose" else 200),
        seed=41 if stage == "choose" else 43,
        neutral=True,
        # Other phrasings than those that anything was chosen by.
        phrasings=(0,) if stage == "choose" else (1, 2),
    )
    if stage == "swap":
        drawn = [other_identity(pair) for pair in drawn]
    contest = Contest(drawn, folder)
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
            facts = {"kind": kind, "stage": stage, "pairs": len(drawn), "seconds": time.time() - began, "rows": rows}
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
    parser.add_argument("stage", choices=("choose", "quote", "swap"))
    parser.add_argument("--kind", choices=tuple(FOLDERS), required=True)
    parser.add_argument("--folder", type=Path, help="a pipeline folder; the shipped one when left out")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--word", default="", help="what the name of the result ends in, such as the training")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    run(chosen.kind, chosen.stage, chosen.folder or FOLDERS[chosen.kind], chosen.out, chosen.word, chosen.pairs)


if __name__ == "__main__":
    main()
