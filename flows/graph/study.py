"""`headstart inflection`: measure on a few rows of a sheet which start step and tail to use, and keep the answer.

Pairs are measured one by one and kept as they are measured, so a study that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.graph.driver import stop_on_signals
from flows.prepare import Prepared, prepare
from flows.runners.prefect import Look, PlainRunner, Runner
from prior_engine.models.info import inspect_model
from prior_engine.requests.schedule import line_refusal
from tasks.errors import InterruptedBatchError, PlanError
from tasks.making.devices import pool_for, spec_for, workers_of
from tasks.making.progress import Progress
from tasks.making.runtime import Runtime, forget, register
from tasks.pages.inflection import page
from tasks.planning.advice import RECORD, guidance_of, study_name
from tasks.planning.work import BatchContext, RowResult, VariantWork
from tasks.studies.conclusion import MEASURES, Bar, concluded
from tasks.studies.pair import PairWork, Setting, measure_pair, settings_to_try

if TYPE_CHECKING:
    from prior_store import Store

PAGE = "inflection.html"
_MANY_STEPS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study is about, and the pairs that it measures."""

    name: str
    store: Store
    prepared: Prepared
    settings: tuple[Setting, ...]
    pairs: tuple[PairWork, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a study found."""

    record: dict[str, Any]
    page: str
    interrupted: bool = False


def prepare_study(overrides: Sequence[str]) -> Study:
    """Choose the rows and the ways to try; every mistake is raised here."""
    named = any(line.partition("=")[0] in {"sheet", "sheet.path"} for line in overrides)
    prepared = prepare(overrides if named else ["sheet=demo", *overrides])
    plan, wanted = prepared.plan, prepared.settings.inflection
    if plan.full_steps < 3:
        raise PlanError(f"a schedule of {plan.full_steps} steps has no start step to look for; give it at least 3")
    guidance = guidance_of(prepared.settings)
    chosen = _spread(prepared, wanted.pairs, guidance)
    starts = wanted.start_steps
    if starts is None and plan.full_steps > _MANY_STEPS:
        starts = tuple(range(0, plan.full_steps - 1, max(2, plan.full_steps // _MANY_STEPS)))
    late = [step for step in starts or () if step > plan.full_steps - 2]
    if late:
        raise PlanError(
            f"inflection.start_steps has {late}, past the last step to start from; give 0..{plan.full_steps - 2}"
        )
    priors = {prior.key: prior for prior in plan.priors}
    info = inspect_model(spec_for(prepared.settings))
    on_line = line_refusal(info, prepared.settings.schedule.for_engine) is None
    kinds = tuple(start for start in wanted.starts if start == "snapshot" or on_line)
    ways = settings_to_try(plan.full_steps, starts, wanted.tails, kinds)
    if not any(way.start_step is not None for way in ways):
        raise PlanError(
            f"inflection.starts={list(wanted.starts)} and inflection.tails={list(wanted.tails)} leave nothing to try "
            "with this model and schedule; a straight line takes re-spaced tails, such as inflection.tails=[2,3]"
        )
    return Study(
        name=study_name(plan.model, plan.schedule, guidance),
        store=prepared.store,
        prepared=prepared,
        settings=ways,
        pairs=tuple(PairWork(prior=priors[row.prior_key], variant=row, settings=ways) for row in chosen),
    )


def _spread(prepared: Prepared, count: int, guidance: float) -> list[VariantWork]:
    """Rows of as many identities as there are, all told with the guidance that the study is for."""
    by_identity: dict[str, list[VariantWork]] = {}
    for row in prepared.plan.variants:
        if row.parent_row is None and row.conditioning.guidance == guidance:
            by_identity.setdefault(row.prior_key, []).append(row)
    if not by_identity:
        raise PlanError(f"no row of {prepared.plan.sheet_name} is told with guidance {guidance:g}; set guidance=...")
    rows = list(by_identity.values())
    # Round-robin over identities, each entering its list at another place, so that not all do the same thing.
    turns = [[one[(turn + 2 * place) % len(one)] for place, one in enumerate(rows) if turn < len(one)]
             for turn in range(max(map(len, rows)))]  # fmt: skip
    picked = [row for turn in turns for row in turn][:count]
    return sorted(picked, key=lambda row: row.prior_key)


def run_study(
    study: Study,
    make_runner: Callable[[], Runner],
    *,
    stop: threading.Event | None = None,
    on_change: Callable[[Progress], None] = lambda _: None,
) -> Found:
    """Measure what is missing, conclude, keep record and page."""
    known = {pair.file: found for pair in study.pairs if (found := _read(study, pair)) is not None}
    missing = [pair for pair in study.pairs if pair.file not in known]
    stop = stop or threading.Event()
    with stop_on_signals(stop) if missing else nullcontext():
        for pair, found in _measured(study, missing, make_runner, stop, on_change):
            known[pair.file] = found
    if not known:
        raise InterruptedBatchError("stopped before a pair was measured; the same command starts anew")
    wanted = study.prepared.settings.inflection
    record = {
        "model": dict(study.prepared.plan.model),
        "schedule": dict(study.prepared.plan.schedule),
        "guidance": guidance_of(study.prepared.settings),
        "full_steps": study.prepared.plan.full_steps,
        "bar": {"follow": wanted.follow, "detail": wanted.detail},
        **concluded(list(known.values()), study.settings, Bar(follow=wanted.follow, detail=wanted.detail)),
    }
    interrupted = len(known) < len(study.pairs)
    if not interrupted:
        study.store.put_batch_file(study.name, RECORD, json.dumps(record, ensure_ascii=False, indent=1).encode())
    study.store.put_batch_file(study.name, PAGE, page(record).encode())
    return Found(
        record=record,
        page=study.store.uri(f"batches/{study.name}/{PAGE}"),
        interrupted=interrupted,
    )


def _read(study: Study, pair: PairWork) -> dict[str, Any] | None:
    from prior_store.errors import KeyNotFoundError

    try:
        found: dict[str, Any] = json.loads(study.store.read_batch_file(study.name, pair.file))
    except KeyNotFoundError:
        return None
    return found


def _measured(
    study: Study,
    missing: Sequence[PairWork],
    make_runner: Callable[[], Runner],
    stop: threading.Event,
    on_change: Callable[[Progress], None],
) -> list[tuple[PairWork, dict[str, Any]]]:
    if not missing:
        return []
    settings = study.prepared.settings
    context = BatchContext(batch=study.name, settings=settings, tags=settings.tags)
    a_pair = 2 * study.prepared.plan.full_steps + sum(setting.steps for setting in study.settings)
    progress = Progress(variants_total=len(missing), steps_total=a_pair * len(missing))
    register(context, Runtime(store=study.store, pool=pool_for(settings), stop=stop, progress=progress))
    events: queue.SimpleQueue[tuple[PairWork, Any]] = queue.SimpleQueue()
    found: list[tuple[PairWork, dict[str, Any]]] = []
    try:
        with make_runner() as runner:
            for pair in missing:
                runner.submit(
                    lambda outcome, pair=pair: events.put((pair, outcome)),  # type: ignore[misc]
                    measure_pair,
                    pair,
                    context,
                    look=Look(name=f"measure {pair.label}", tags=(study.name, pair.prior.name)),
                )
            for _ in missing:
                pair, outcome = _next(events, progress, on_change)
                if isinstance(outcome, InterruptedBatchError):
                    continue
                if isinstance(outcome, BaseException):
                    stop.set()
                    raise outcome
                found.append((pair, outcome))
                progress.finished(pair.key, _ended(pair))
                on_change(progress)
    finally:
        forget(context)
    return found


def _next(
    events: queue.SimpleQueue[tuple[PairWork, Any]], progress: Progress, on_change: Callable[[Progress], None]
) -> tuple[PairWork, Any]:
    while True:
        try:
            return events.get(timeout=0.5)
        except queue.Empty:
            on_change(progress)


def _ended(pair: PairWork) -> RowResult:
    return RowResult(
        kind="variant", key=pair.key, row_id=pair.label, identity=pair.prior.name, status="done", steps_run=0
    )


def find_here(overrides: Sequence[str], *, quiet: bool = True) -> tuple[Found, str | None]:
    """Run a study from Python or the shell, with the server that the settings name."""
    from flows.cli.terminal import live
    from flows.on_prefect.server import connect, quiet_environment

    quiet_environment()
    study = prepare_study(overrides)
    nothing_to_do = all(_read(study, pair) is not None for pair in study.pairs)
    ui = None if nothing_to_do else connect(study.prepared.settings.server)
    with live(quiet=quiet or nothing_to_do) as on_change:
        if ui is not None:
            from flows.on_prefect.study import run_as_flow

            return run_as_flow(study, list(overrides), on_change), ui
        workers = workers_of(study.prepared.settings)
        return run_study(study, lambda: PlainRunner(workers), on_change=on_change), None


def launch_study(overrides: Sequence[str], *, as_json: bool, quiet: bool) -> int:
    """What the command does; returns the exit code."""
    from flows.cli.exit_codes import EXIT_DONE, EXIT_INTERRUPTED
    from flows.cli.terminal import set_up_logging

    set_up_logging(as_json=False)
    found, ui = find_here(overrides, quiet=quiet or as_json)
    if as_json:
        sys.stdout.write(json.dumps(found.record, ensure_ascii=False, indent=1) + "\n")
    else:
        sys.stdout.write(told(found, ui, overrides))
    return EXIT_INTERRUPTED if found.interrupted else EXIT_DONE


def advised(advice: Mapping[str, Any]) -> str:
    """The settings that the advice stands for, as one types them."""
    return " ".join(f"{name}={advice[name]}" for name in ("start_step", "tail", "start"))


def told(found: Found, ui: str | None, overrides: Sequence[str]) -> str:
    """The table of what is worth choosing from, the advice, and where the rest is."""
    record, advice = found.record, found.record["advice"]
    lines = [f"{'setting':14} {'sigma':>6} {'steps':>5}  " + " ".join(f"{name:>12}" for name in MEASURES)]
    for line in record["lines"]:
        if line["pareto"] or line["start_step"] is None:
            sigma = "" if line["sigma"] is None else f"{line['sigma']:.3f}"
            numbers = " ".join(f"{line[name]:>6.2f} ±{line[name + '_hw']:.2f}" for name in MEASURES)
            lines.append(f"{line['name']:14} {sigma:>6} {line['steps']:>5}  {numbers}")
    if advice["start_step"] is None:
        lines.append(f"No advice: {advice['why']}")
    else:
        low, high = advice["start_steps"]
        lines += [
            f"Advice:  {advised(advice)}: {advice['steps']} steps a variant",
            f"Sure:    {advice['certainty']:.0%} of resamples find it good enough; 95 % of their own answers start between {low} and {high}",
            f"Why:     {advice['why']}",
        ]
    if record["mute"]:
        lines.append(f"Left out, since the prompt changes nothing even in a full run: {', '.join(record['mute'][:5])}")
    lines.append(f"Page:    {found.page}")
    if found.interrupted:
        lines.append(f"Interrupted; go on with: headstart inflection {' '.join(overrides)}")
    elif advice["start_step"] is not None:
        lines.append("Used from now on where start_step=auto, for this model, schedule and guidance in this store.")
    if ui:
        lines.append(f"UI:      {ui}")
    return "\n".join(lines) + "\n"
