"""A study as a graph: a few pairs, each measured by itself and kept as it is measured, so that a study goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flows.graph.run import Means, run_graph
from flows.graph.work import Graph, Work
from flows.prepare import Prepared, prepare
from prior_engine.requests.schedule import line_refusal
from tasks.context import Context
from tasks.errors import InterruptedBatchError, PlanError
from tasks.making.progress import Progress
from tasks.pages.inflection import page
from tasks.planning.advice import RECORD, guidance_of, is_guidance_free, second_guidance, study_name
from tasks.planning.planned import PlannedVariant
from tasks.studies.conclusion import LEAST_PAIRS, Bar, concluded
from tasks.studies.pair import Pair, Trial, measure_pair, trials_of

if TYPE_CHECKING:
    from prior_store import Store

PAGE = "inflection.html"
_MANY_STEPS = 12
# The share of the guidance of full runs that did best in variants of the demo model (docs/fidelity.md).
_LESS = 5 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study is about, and the pairs that it measures."""

    name: str
    store: Store
    prepared: Prepared
    trials: tuple[Trial, ...]
    pairs: tuple[Pair, ...]

    @property
    def nothing_to_do(self) -> bool:
        """All pairs were measured before."""
        return not missing_pairs(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a study found. `kept` tells whether `start_step=auto` uses it from now on."""

    record: dict[str, Any]
    page: str
    kept: bool
    interrupted: bool = False


def prepare_study(overrides: Sequence[str]) -> Study:
    """Choose the rows and the ways to try; every mistake is raised here."""
    named = any(line.partition("=")[0] in {"sheet", "sheet.path"} for line in overrides)
    prepared = prepare(overrides if named else ["sheet=demo", *overrides])
    plan = prepared.plan
    trials = _trials(prepared)
    return Study(
        name=study_name(prepared.settings, plan.model, plan.loras),
        store=prepared.store,
        prepared=prepared,
        trials=trials,
        pairs=tuple(
            Pair(prior=row.prior, variant=row, trials=trials)
            for row in spread_rows(prepared, prepared.settings.inflection.pairs)
        ),
    )


def _trials(prepared: Prepared) -> tuple[Trial, ...]:
    total, wanted = prepared.plan.full_steps, prepared.settings.inflection
    if total < 3:
        raise PlanError(f"a schedule of {total} steps has no start step to look for; give it at least 3")
    starts = wanted.start_steps
    if starts is None and total > _MANY_STEPS:
        starts = tuple(range(0, total - 1, max(2, total // _MANY_STEPS)))
    late = [step for step in starts or () if step > total - 2]
    if late:
        raise PlanError(f"inflection.start_steps has {late}, past the last step to start from; give 0..{total - 2}")
    on_line = line_refusal(prepared.model, prepared.settings.schedule.for_engine) is None
    kinds = tuple(start for start in wanted.starts if start == "snapshot" or on_line)
    tails = ("exact",) if prepared.settings.schedule.tails == "exact" else wanted.tails
    told = _guidances(prepared)
    trials = trials_of(total, starts, tails, kinds, told)
    most, full = wanted.max_forwards, guidance_of(prepared.settings, full=True)
    while wanted.start_steps is None and sum(trial.forwards(full) for trial in trials) > most:
        sparser = tuple(range(0, total - 1, 1 if starts is None else starts[1] - starts[0] + 1))
        if len(sparser) < 2:
            break
        starts = sparser
        trials = trials_of(total, starts, tails, kinds, told)
    if (forwards := sum(trial.forwards(full) for trial in trials)) > most:
        raise PlanError(
            f"a pair would cost {forwards} forwards of the model, and inflection.max_forwards allows {most}; name fewer "
            "inflection.start_steps, tails, starts or guidances, or allow more"
        )
    tried = {trial.start_step for trial in trials}
    if tried <= {None}:
        raise PlanError(
            f"inflection.starts={list(wanted.starts)} and inflection.tails={list(wanted.tails)} leave nothing to try "
            "with this model and schedule; a straight line takes re-spaced tails, such as inflection.tails=[2,3]"
        )
    left_out = [step for step in wanted.start_steps or () if step not in tried]
    if left_out:
        raise PlanError(
            f"inflection.start_steps={left_out} cannot be tried: no tail of inflection.tails={list(wanted.tails)} is "
            f"shorter than what the schedule has left there; add 'exact' to the tails, or leave these steps out"
        )
    return trials


def _guidances(prepared: Prepared) -> tuple[float | None, ...]:
    """What variants may be told with: as full runs (None), and with less, which is often enough for the little that changes."""
    settings = prepared.settings
    full, asked = guidance_of(settings, full=True), settings.inflection.guidances
    if not is_guidance_free(settings):
        if asked:
            raise PlanError(
                f"inflection.guidances={list(asked)} cannot be tried: guidance is {full:g}, as "
                f"{'the weights of this schedule need it' if settings.guidance is None else 'the setting guidance says'}"
            )
        return (None,)
    if asked is None:
        own = settings.model.variant_guidance
        asked = (round(2 * _LESS * full) / 2 if own is None else own,) if full > 1 else ()
    return (None, *(guidance for guidance in asked if guidance != full and guidance >= 1))


def spread_rows(prepared: Prepared, count: int, among: Sequence[PlannedVariant] | None = None) -> list[PlannedVariant]:
    """Rows of as many identities as there are that name no guidance of their own, told as full runs are."""
    settings = prepared.settings
    named = {row.id for row in prepared.sheet.rows if row.guidance is not None}
    guidance = guidance_of(settings, full=True)
    by_identity: dict[str, list[PlannedVariant]] = {}
    for row in prepared.plan.variants if among is None else among:
        if row.parent_row is None and (row.row_id not in named or row.conditioning.guidance == guidance):
            told = replace(row.conditioning, guidance=guidance, guidance_2=second_guidance(settings, guidance))
            by_identity.setdefault(row.prior_key, []).append(replace(row, conditioning=told))
    if not by_identity:
        raise PlanError(
            f"no row of {prepared.plan.sheet_name} can be measured with guidance {guidance:g}; set guidance=..."
        )
    rows = list(by_identity.values())
    # Round-robin over identities, each entering its list at another place, so that not all do the same thing.
    turns = [[one[(turn + 2 * place) % len(one)] for place, one in enumerate(rows) if turn < len(one)]
             for turn in range(max(map(len, rows)))]  # fmt: skip
    picked = [row for turn in turns for row in turn][:count]
    return sorted(picked, key=lambda row: row.prior_key)


def missing_pairs(study: Study) -> list[Pair]:
    """The pairs that no earlier study has measured."""
    return [pair for pair in study.pairs if study.store.batch_file_or_none(study.name, pair.file) is None]


def run_study(study: Study, means: Means) -> Found:
    """Measure what is missing, conclude, keep record and page."""
    interrupted = bool(missing := missing_pairs(study)) and _measured(study, missing, means)
    contents = [study.store.batch_file_or_none(study.name, pair.file) for pair in study.pairs]
    known = [json.loads(content) for content in contents if content is not None]
    if not known:
        raise InterruptedBatchError("stopped before a pair was measured; run the same command again to start over")
    plan, settings = study.prepared.plan, study.prepared.settings
    wanted = settings.inflection
    record = {
        "model": dict(plan.model),
        "schedule": dict(plan.schedule),
        "guidance": guidance_of(settings, full=True),
        "full_steps": plan.full_steps,
        "bar": {"follow": wanted.follow, "detail": wanted.detail},
        **concluded(known, study.trials, Bar(follow=wanted.follow, detail=wanted.detail)),
    }
    kept = not interrupted and (len(known) >= LEAST_PAIRS or wanted.force)
    if kept:
        study.store.put_batch_file(study.name, RECORD, json.dumps(record, ensure_ascii=False, indent=1).encode())
    study.store.put_batch_file(study.name, PAGE, page(record, known).encode())
    uri = study.store.uri(f"batches/{study.name}/{PAGE}")
    return Found(record=record, page=uri, kept=kept, interrupted=interrupted)


def _measured(study: Study, missing: Sequence[Pair], means: Means) -> bool:
    """Measure pairs; returns whether that was interrupted."""
    context = Context(batch=study.name, settings=study.prepared.settings)
    a_pair = 2 * study.prepared.plan.full_steps + sum(trial.steps for trial in study.trials)
    progress = Progress(totals={"pair": len(missing)}, steps_total=a_pair * len(missing))
    works = tuple(
        Work(
            id=pair.key,
            kind="pair",
            title=f"measure {pair.label}",
            call=measure_pair,
            item=pair,
            key=pair.key,
            identity=pair.prior.name,
            vital=True,
        )
        for pair in missing
    )
    files = {pair.key: pair.file for pair in missing}
    graph = Graph(
        works=works,
        is_made=lambda work: study.store.batch_file_or_none(study.name, files[work.id]) is not None,
    )
    return run_graph(graph, context, study.store, progress, means).interrupted
