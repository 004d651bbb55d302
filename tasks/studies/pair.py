"""One pair of an inflection study: a prior, the full run of another prompt, and every way of getting there cheaper."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from prior_engine.requests.options import ResumeOptions, RunOptions
from prior_engine.requests.schedule import Schedule, line_refusal
from prior_engine.requests.steps import Tail
from prior_store import recipe_key
from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.devices import Lease
from tasks.making.encode import embeddings_for
from tasks.making.runtime import Runtime, runtime_for
from tasks.planning.advice import second_guidance
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.result import Result
from tasks.studies import likeness
from tasks.studies.likeness import Likeness
from tasks.studies.strips import strip

if TYPE_CHECKING:
    from prior_engine import Snapshot, VariantResult
    from prior_engine.requests.conditioning import Conditioning
    from tasks.settings import Settings

MEASURE_VERSION = 3
# What the other two clips of a pair are called, beside the names of its trials.
PRIOR, FULL_RUN = "prior", "full run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way to a variant: start step, tail and guidance, or (`start_step` None) the same steps from scratch."""

    steps: int
    start_step: int | None = None
    tail: Tail = "exact"
    start: Literal["snapshot", "line"] = "snapshot"
    # None = that of full runs.
    guidance: float | None = None

    @property
    def name(self) -> str:
        """How people and records call it."""
        if self.start_step is None:
            return f"scratch {self.steps}"
        way = "" if self.start == "snapshot" else " line"
        told = "" if self.guidance is None else f" g{self.guidance:g}"
        return f"k{self.start_step}{way} " + ("exact" if self.tail == "exact" else f"in {self.steps}") + told

    def forwards(self, full_guidance: float) -> int:
        """What it costs: two a step with guidance, and two to ask what it became."""
        guidance = full_guidance if self.guidance is None else self.guidance
        return self.steps * (1 if guidance == 1 else 2) + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What to measure on one identity and one prompt. The variant is told as its full run is; a trial may say otherwise."""

    prior: PlannedPrior
    variant: PlannedVariant
    trials: tuple[Trial, ...]

    @property
    def key(self) -> str:
        """The same pair, measured in the same ways, is measured once."""
        return recipe_key(
            {
                "kind": "inflection pair",
                "version": MEASURE_VERSION,
                "prior": self.prior.key,
                "conditioning": self.variant.conditioning.describe(),
                "settings": [trial.name for trial in self.trials],
            }
        )

    @property
    def file(self) -> str:
        """Its record, beside those of the other pairs."""
        return f"pair-{self.key[:20]}.json"

    @property
    def label(self) -> str:
        """As in a batch, without the start step, which is what is looked for."""
        return self.variant.label.rpartition(" k")[0]


def trials_of(
    total: int,
    start_steps: Sequence[int] | None,
    tails: Sequence[Tail],
    starts: Sequence[Literal["snapshot", "line"]] = ("snapshot",),
    guidances: Sequence[float | None] = (None,),
) -> tuple[Trial, ...]:
    """All start steps with all tails that save steps, then their controls from scratch.

    A straight line has no steps of its own that are left, so it is tried with re-spaced tails only. Long tails make good
    what guidance overdoes, so another guidance is tried with re-spaced ones, unless there are no others.
    """
    whole = () if all(tail == "exact" for tail in tails) else ("exact",)
    found = []
    for step in start_steps if start_steps is not None else range(total - 1):
        left = total - 1 - step
        found += [
            Trial(start_step=step, tail=tail, start=start, steps=left if tail == "exact" else tail, guidance=guidance)
            for start in starts
            for tail in tails
            if (tail == "exact" and start == "snapshot") or (tail != "exact" and tail < left)
            for guidance in ((None,) if tail in whole else guidances)
        ]
    return (*found, *(Trial(steps=steps) for steps in sorted({trial.steps for trial in found})))


def measure_pair(pairs: tuple[Pair, ...], context: Context) -> list[Result]:
    """Measure pairs; each is kept as soon as it is known."""
    return [_measured(pair, context) for pair in pairs]


def _measured(work: Pair, context: Context) -> Result:
    from prior_engine.errors import RunCancelledError

    runtime = runtime_for(context)
    if runtime.stop.is_set():
        raise InterruptedBatchError("the study was asked to stop")
    try:
        with runtime.lease(work.prior.recipe) as lease:
            found = _Study(work, runtime, lease, context.settings).measured()
    except RunCancelledError as stopped:
        raise InterruptedBatchError(f"{work.label} was stopped; a new study continues with it") from stopped
    runtime.store.put_batch_file(context.batch, work.file, json.dumps(found, ensure_ascii=False).encode())
    return Result(id=work.key, kind="pair", key=work.key, identity=work.prior.name, status="done")


@dataclass
class _Study:
    work: Pair
    runtime: Runtime
    lease: Lease
    settings: Settings

    def measured(self) -> dict[str, Any]:
        work, schedule = self.work, self.work.prior.schedule
        self.embeddings = embeddings_for([work.prior.conditioning, work.variant.conditioning], self.lease, self.runtime)
        began = time.perf_counter()
        snapshots = {
            snapshot.step: snapshot
            for snapshot in self.lease.engine.record(
                work.prior.identity, work.prior.conditioning, schedule, options=self._options("prior")
            )
        }
        full_s = time.perf_counter() - began
        last = snapshots[max(snapshots)]
        self.last = last
        whole = self._from_scratch(schedule, FULL_RUN).latents
        prior, full = self._frames(last), self._frames(whole)
        asks = line_refusal(self.lease.engine.info, schedule) is None
        ends = (self._leaning(last), self._leaning(whole)) if asks else (0.0, 0.0)
        found: dict[str, Any] = {}
        looks = {PRIOR: strip(prior), FULL_RUN: strip(full)}
        for trial, result in self._runs(snapshots):
            video = self._frames(result.latents)
            looks[trial.name] = strip(video)
            found[trial.name] = Likeness(
                followed=(
                    likeness.between(self._leaning(result.latents), *ends)
                    if asks
                    else likeness.on_the_way(video, prior, full)
                ),
                first=likeness.explained(video[:1], prior[:1]),
                layout=likeness.layout(video, prior, full),
                latents=likeness.agreement(_array(result.latents), _array(last)),
                detail=likeness.detail(video),
                steps=trial.steps,
                seconds=result.seconds,
            ).as_plain()
        return {
            "pair": work.label,
            "identity": work.prior.name,
            "prompt": work.variant.conditioning.prompt,
            "changed": likeness.changed(prior, full),
            "detail_full": likeness.detail(full),
            "kept_full": [
                likeness.explained(full[:1], prior[:1]),
                likeness.layout(full, prior, full),
            ],
            "seconds_full": full_s,
            "sigmas": {str(step): snapshot.sigma for step, snapshot in snapshots.items()},
            "settings": found,
            "looks": looks,
        }

    def _runs(self, snapshots: dict[int, Snapshot]) -> Iterator[tuple[Trial, VariantResult]]:
        prior = self.work.prior
        for trial in self.work.trials:
            if trial.start_step is None:
                yield trial, self._from_scratch(fewer_steps(prior.schedule, trial.steps), trial.name)
                continue
            yield (
                trial,
                self.lease.engine.resume(
                    snapshots[trial.start_step if trial.start == "snapshot" else max(snapshots)],
                    prior.identity,
                    self._told(trial),
                    prior.schedule,
                    how=ResumeOptions(tail=trial.tail, line=trial.start_step if trial.start == "line" else None),
                    options=self._options(trial.name),
                ),
            )

    def _leaning(self, made: Snapshot) -> float:
        """How much better the model's guess at a video is when it is told the variant's prompt than the prior's.

        Noise is laid over the video, and the model guesses in one step, without guidance, what is below: with the prompt
        that fits what it sees, it guesses better. This asks about the prompt alone, however much else of the picture changed.
        """
        work, schedule = self.work, self.work.prior.schedule
        sigmas = self.last.sigmas[1:-1]
        asked_at = min(range(len(sigmas)), key=lambda step: abs(sigmas[step] - likeness.ASKED_AT_SIGMA))
        errors = []
        for prompt in (work.prior.conditioning, work.variant.conditioning):
            guess = self.lease.engine.resume(
                replace(self.last, latents=made.latents),
                work.prior.identity,
                replace(prompt, guidance=1.0, guidance_2=None),
                schedule,
                how=ResumeOptions(tail=1, line=asked_at),
                options=RunOptions(embeddings=self.embeddings),
            )
            errors.append(float(np.square(_array(guess.latents) - _array(made)).mean()))
        return errors[0] - errors[1]

    def _told(self, trial: Trial) -> Conditioning:
        told, settings = self.work.variant.conditioning, self.settings
        if trial.guidance is None:
            return told
        return replace(told, guidance=trial.guidance, guidance_2=second_guidance(settings, trial.guidance))

    def _from_scratch(self, schedule: Schedule, name: str) -> VariantResult:
        told = self.work.variant.conditioning
        return self.lease.engine.scratch(self.work.prior.identity, told, schedule, options=self._options(name))

    def _options(self, name: str) -> RunOptions:
        label = f"{self.work.label}, {name}"
        return RunOptions(
            cancel=self.runtime.stop.is_set,
            on_step=lambda step, steps: self.runtime.progress.step(self.work.key, label, step + 1, steps),
            embeddings=self.embeddings,
        )

    def _frames(self, latents: Snapshot) -> likeness.Video:
        with self.runtime.decoding:
            frames = list(self.lease.engine.decode(latents))
        video: likeness.Video = np.stack(frames).astype(np.float32) / np.float32(255)
        return video


def fewer_steps(schedule: Schedule, steps: int) -> Schedule:
    """The same walk in fewer steps; an explicit grid has no law to lay them by, so the Wan grid stands in for it."""
    if schedule.grid == "explicit":
        return replace(schedule, grid="wan", sigmas=None, timesteps=None, num_inference_steps=steps)
    return replace(schedule, num_inference_steps=steps)


def _array(snapshot: Snapshot) -> Any:
    return snapshot.latents.float().cpu().numpy()
