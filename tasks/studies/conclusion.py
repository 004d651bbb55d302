"""From measured pairs to an answer: which start step and tail to use, how sure that is, and whether a prior pays.

The inflection of a tail is its latest start step at which variants still follow their prompts. Of the settings that
follow and do not overdo it, lose nothing at any scale and keep the prior as well as a full run does, whichever pairs are drawn, the one of fewest steps is
recommended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from prior_engine.requests.steps import Tail
from tasks.planning.advice import Advice
from tasks.studies.likeness import AS_MUCH, FOLLOWS, NOTHING, TOO_FAR
from tasks.studies.pair import Trial

# A pair whose prompt changes less than this share of what there is to see tells nothing about following.
LEAST_CHANGE = 0.002
RESAMPLES = 400
# From fewer pairs than this nothing is said of how sure an answer is.
LEAST_PAIRS = 5
# A setting that is good enough in so many resamples of the pairs is preferred to a cheaper one that is so by luck.
SURE = 0.8
# follows: share of pairs that go far enough towards the full run of their prompt (`FOLLOWS`). followed: how far, 0 to 1.
# detail: at the scale where most is missing, as a share of what full runs show there.
MEASURES = ("follows", "followed", "kept", "detail")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What counts as good enough, as shares of what the full run of the same prompt does."""

    follow: float
    detail: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One setting over all pairs: means, with half of their 95 % intervals."""

    name: str
    steps: int
    start_step: int | None
    tail: Tail
    start: Literal["snapshot", "line"]
    guidance: float | None
    sigma: float | None
    follows: float
    follows_hw: float
    followed: float
    followed_hw: float
    kept: float
    kept_hw: float
    detail: float
    detail_hw: float
    seconds: float
    pareto: bool = False


def concluded(pairs: Sequence[Mapping[str, Any]], trials: Sequence[Trial], bar: Bar) -> dict[str, Any]:
    """The whole record of a study."""
    telling = [pair for pair in pairs if pair["changed"] >= LEAST_CHANGE]
    mute = [pair["pair"] for pair in pairs if pair["changed"] < LEAST_CHANGE]
    # Pictures are for the page, and a plan reads the record every time.
    told = [{name: value for name, value in pair.items() if name != "looks"} for pair in pairs]
    if not telling:
        advice = _none("no prompt changed anything, even in a full run; use prompts that differ from the base prompts")
        return {"advice": asdict(advice), "lines": [], "inflections": {}, "mute": mute, "pairs": told}
    table = _Table(telling, trials)
    lines = [table.line(trial) for trial in trials]
    lines = _with_pareto(lines)
    return {
        "advice": asdict(_advice(table, trials, bar)),
        "lines": [asdict(line) for line in lines],
        "inflections": _inflections(table.whole, trials, bar),
        "kept_full": table.whole["kept_full"],
        "seconds_full": float(np.mean([pair["seconds_full"] for pair in telling])),
        "mute": mute,
        "pairs": told,
    }


class _Table:
    """Numbers of all pairs by setting: rows are pairs."""

    def __init__(self, pairs: Sequence[Mapping[str, Any]], trials: Sequence[Trial]) -> None:
        self.pairs = pairs
        seen = [[pair["settings"][trial.name] for trial in trials] for pair in pairs]
        self.trials = list(trials)
        self.followed = np.array([[one["followed"] for one in row] for row in seen])
        # The latents are not compared: full runs of two prompts differ there by texture that no one sees.
        self.kept = np.array([[(one["first"] + one["layout"]) / 2 for one in row] for row in seen])
        self.detail = _logs([[one["detail"] for one in row] for row in seen])
        self.seconds = np.array([[one["seconds"] for one in row] for row in seen])
        self.full_detail = _logs([pair["detail_full"] for pair in pairs])
        self.full_kept = np.array([np.mean(pair["kept_full"]) for pair in pairs])
        self.whole = self.means(np.arange(len(pairs)))
        self.draws = [self.means(which) for which in resamples(len(pairs))]

    def means(self, which: Any) -> dict[str, Any]:
        """Means over some of the pairs, one value a setting."""
        return {
            "follows": (self.followed[which] > FOLLOWS).mean(0),
            "followed": self.followed[which].mean(0),
            "kept": self.kept[which].mean(0),
            "detail": np.exp((self.detail[which] - self.full_detail[which][:, None]).mean(0).min(-1)),
            "kept_full": self.kept_full(which),
        }

    def kept_full(self, which: Any) -> float:
        """How much of the prior the full run of the other prompt keeps, from the same noise."""
        return float(self.full_kept[which].mean())

    def line(self, trial: Trial) -> Line:
        """One line of the table."""
        at = self.trials.index(trial)
        whole = self.whole
        half = {name: 1.96 * float(np.std([draw[name][at] for draw in self.draws])) for name in MEASURES}
        sigmas = self.pairs[0]["sigmas"]
        return Line(
            name=trial.name,
            steps=trial.steps,
            start_step=trial.start_step,
            tail=trial.tail,
            start=trial.start,
            guidance=trial.guidance,
            sigma=None if trial.start_step is None else sigmas[str(trial.start_step)],
            follows=float(whole["follows"][at]),
            follows_hw=half["follows"],
            followed=float(whole["followed"][at]),
            followed_hw=half["followed"],
            kept=float(whole["kept"][at]),
            kept_hw=half["kept"],
            detail=float(whole["detail"][at]),
            detail_hw=half["detail"],
            seconds=float(self.seconds[:, at].mean()),
        )


def _logs(powers: Any) -> Any:
    return np.log(np.array(powers) + NOTHING)


def resamples(count: int) -> list[Any]:
    """Pairs drawn with replacement, the same draws every time."""
    rng = np.random.default_rng(0)
    return [rng.integers(count, size=count) for _ in range(RESAMPLES)]


def _good(means: Mapping[str, Any], trials: Sequence[Trial], bar: Bar) -> list[bool]:
    """Which settings are good enough in everything."""
    return [
        trial.start_step is not None
        and bool(means["follows"][at] >= bar.follow)
        and bool(means["detail"][at] >= bar.detail)
        and bool(means["followed"][at] <= TOO_FAR)
        and bool(means["kept"][at] >= means["kept_full"] - AS_MUCH)
        for at, trial in enumerate(trials)
    ]


def _advice(table: _Table, trials: Sequence[Trial], bar: Bar) -> Advice:
    """The fewest steps that are surely good enough, then what keeps most; where nothing is sure, what is surest."""
    means = table.whole
    draws = np.array([_good(drawn, trials, bar) for drawn in table.draws])
    sure = draws.mean(0)

    def cheapest(good: Sequence[bool] | Any) -> int | None:
        places = [at for at, fits in enumerate(good) if fits]
        return min(places, key=lambda at: (trials[at].steps, -means["kept"][at]), default=None)

    good = np.array(_good(means, trials, bar))
    if not good.any():
        return _none(
            f"no setting makes {bar.follow:.0%} of the pairs follow with {bar.detail:.0%} of the detail of full runs: "
            "a prior does not pay here; try more guidance, another shift, or full runs"
        )
    best = cheapest(good & (sure >= SURE))
    if best is None:
        best = int(np.argmax(np.where(good, sure, -1)))
    trial = trials[best]
    picks = [at for draw in draws if (at := cheapest(draw)) is not None]
    starts = sorted(step for at in picks if (step := trials[at].start_step) is not None)
    enough = len(table.pairs) >= LEAST_PAIRS
    span = (starts[int(0.025 * len(starts))], starts[int(0.975 * (len(starts) - 1))])
    gain, pays = _against_scratch(table, trials, best)
    return Advice(
        start_step=trial.start_step,
        tail=trial.tail,
        start=trial.start,
        guidance=trial.guidance,
        steps=trial.steps,
        certainty=float(sure[best]) if enough else None,
        start_steps=span if enough else None,
        pays=pays,
        why=gain,
    )


def _against_scratch(table: _Table, trials: Sequence[Trial], best: int) -> tuple[str, bool]:
    """The same number of steps without a prior: what is gained, and whether that is more than chance."""
    control = trials.index(Trial(steps=trials[best].steps))
    gains = {}
    for name in ("follows", "kept", "detail"):
        draws = [drawn[name][best] - drawn[name][control] for drawn in table.draws]
        gains[name] = (float(np.mean(draws)), 1.96 * float(np.std(draws)))
    listed = ", ".join(f"{name} {gain:+.2f} ±{half:.2f}" for name, (gain, half) in gains.items())
    better = any(gains[name][0] > gains[name][1] for name in ("kept", "detail"))
    worse = gains["follows"][0] < -max(gains["follows"][1], 0.1)
    pays = better and not worse and len(table.pairs) >= LEAST_PAIRS
    word = "a prior pays" if pays else "a prior is not shown to pay"
    return f"against {trials[best].steps} steps from scratch, {word}: {listed}", pays


def _inflections(means: Mapping[str, Any], trials: Sequence[Trial], bar: Bar) -> dict[str, int | None]:
    """By tail and guidance: the latest start step at which variants still follow, all earlier ones of that tail included."""
    found: dict[str, int | None] = {}
    ways = [(trial.start, str(trial.tail), trial.guidance) for trial in trials if trial.start_step is not None]
    for start, tail, guidance in dict.fromkeys(ways):
        name = (tail if start == "snapshot" else f"{start} {tail}") + ("" if guidance is None else f" g{guidance:g}")
        found[name] = None
        for at, trial in enumerate(trials):
            if trial.start_step is None or (trial.start, str(trial.tail), trial.guidance) != (start, tail, guidance):
                continue
            if means["follows"][at] < bar.follow:
                break
            found[name] = trial.start_step
    return found


def _with_pareto(lines: Sequence[Line]) -> list[Line]:
    """Mark the settings that no other beats: not more steps, and no less of following, keeping and detail."""
    from dataclasses import replace

    ours = [line for line in lines if line.start_step is not None]

    def beats(one: Line, other: Line) -> bool:
        pairs = [
            (other.steps, one.steps),
            (one.follows, other.follows),
            (one.followed, other.followed),
            (one.kept, other.kept),
            (min(one.detail, 1.0), min(other.detail, 1.0)),
        ]
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [
        replace(line, pareto=line.start_step is not None and not any(beats(other, line) for other in ours))
        for line in lines
    ]


def _none(why: str) -> Advice:
    return Advice(start_step=None, tail=None, steps=None, certainty=0.0, start_steps=None, pays=False, why=why)
