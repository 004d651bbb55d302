"""What `headstart run` and `headstart plan` do: prepare, run with or without a server, say how it ended."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from flows.cli.exit_codes import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from flows.cli.terminal import live, set_up_logging
from flows.graph.batch import BatchResult, plan_document, run_batch
from flows.on_prefect.server import connect, quiet_environment
from flows.prepare import Only, Prepared, prepare
from tasks.making.progress import clock
from tasks.planning.estimate import Estimate, estimate
from tasks.planning.plan import Plan


def run_here(overrides: Sequence[str], only: Only = "all") -> BatchResult:
    """Run a batch from Python: no terminal view, mistakes as exceptions, the result as a value."""
    quiet_environment()
    prepared = prepare(overrides, only)
    ui = None if prepared.nothing_to_do else connect(prepared.settings.server)
    return _run(prepared, list(overrides), ui, quiet=True, json_logs=False)


def launch(overrides: Sequence[str], *, json_logs: bool, quiet: bool, only: Only = "all") -> int:
    """Run a batch; returns the exit code."""
    quiet_environment()
    set_up_logging(as_json=json_logs)
    prepared = prepare(overrides, only)
    for warning in prepared.plan.warnings[:20]:
        sys.stderr.write(f"note: {warning}\n")
    ui = None if prepared.nothing_to_do else connect(prepared.settings.server)
    result = _run(prepared, list(overrides), ui, quiet=quiet, json_logs=json_logs)
    sys.stdout.write(closing(prepared, result, ui, overrides))
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if result.failed else EXIT_DONE


def _run(prepared: Prepared, overrides: list[str], ui: str | None, *, quiet: bool, json_logs: bool) -> BatchResult:
    from flows.runners.prefect import PlainRunner

    with live(quiet=quiet or prepared.nothing_to_do, as_json=json_logs) as on_change:
        if ui is not None:
            from flows.on_prefect.flows import run_prepared

            return run_prepared(prepared, overrides, on_change)
        from tasks.making.devices import workers_of

        workers = 1 if prepared.nothing_to_do else workers_of(prepared.settings)
        return run_batch(prepared, lambda: PlainRunner(workers, prepared.settings.retries), on_change=on_change)


def closing(prepared: Prepared, result: BatchResult, ui: str | None, overrides: Sequence[str]) -> str:
    """At most ten lines: what there is, what was saved, what failed, how to go on."""
    plan = prepared.plan
    failed_rows = [row for row in result.failed if row.kind == "variant"]
    command = "headstart run " + " ".join(overrides)
    if prepared.nothing_to_do:
        there = f"{len(plan.priors)} priors" if prepared.only == "priors" else f"{result.rows} variants"
        lines = [f"Nothing to do: all {there} of {plan.sheet_name} are in {prepared.store.url}."]
    elif prepared.only == "priors":
        lines = [f"{result.priors} priors recorded in {clock(result.seconds)}; {result.steps_run} steps run."]
    else:
        lines = [
            f"{result.done} variants made, {result.cached} were there, {len(failed_rows)} failed, in {clock(result.seconds)}.",
            f"Steps: {result.steps_run} run, priors included; full runs of these rows would take {plan.steps_from_scratch}.",
        ]
    doubtful = [row.row_id for row in result.results if row.doubt]
    if doubtful:
        lines.append(f"Doubtful: {len(doubtful)}, marked in the report: {', '.join(doubtful[:3])}")
    lines.append(f"Report:  {result.report}")
    lines.append(f"Videos:  {prepared.store.url}/variants")
    if ui:
        lines.append(f"UI:      {ui}")
    elif not prepared.nothing_to_do:
        lines.append("UI:      none (server=none); the store and the report hold everything")
    lines += [f"Failed:  {row.row_id}: {row.error}" for row in failed_rows[:2]]
    if len(failed_rows) > 2:
        lines.append(f"         and {len(failed_rows) - 2} more, all in the report")
    if result.interrupted:
        lines.append(f"Interrupted with {result.left} rows left; go on with: {command}")
    elif failed_rows:
        lines.append(f"Only what is missing is run again by: {command}")
    return "\n".join(lines) + "\n"


def show_plan(overrides: Sequence[str], *, as_json: bool) -> int:
    """Print what a run would do."""
    prepared = prepare(overrides)
    guess = estimate(prepared.plan, prepared.store)
    if as_json:
        document = plan_document(prepared) | {"estimate": guess.as_plain()}
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        return EXIT_DONE
    plan = prepared.plan
    to_do = plan.variants_to_do
    rows = [
        ("sheet", f"{plan.sheet_name}: {len(plan.variants)} rows, {len(plan.priors)} priors"),
        ("cached", f"{len(plan.variants) - len(to_do)} variants, {sum(prior.cached for prior in plan.priors)} priors"),
        ("to do", f"{len(to_do)} variants, {len(plan.priors_to_do)} priors"),
        ("start", f"{_told_start(plan)} ({plan.start_from})"),
        ("steps", f"{plan.steps_to_run} to run; full runs of the missing rows: {plan.steps_from_scratch}"),
        ("time", _told_time(guess)),
        ("room", "unknown" if guess.bytes is None else f"about {guess.bytes / 2**20:,.1f} MiB"),
        ("store", str(prepared.store.url)),
    ]
    sys.stdout.write("".join(f"{name:8}{value}\n" for name, value in rows))
    return EXIT_DONE


def _told_start(plan: Plan) -> str:
    where = f"after step {plan.start.start_step} of {plan.full_steps}"
    return where if plan.start.start == "snapshot" else f"{where}, on the straight line"


def _told_time(guess: Estimate) -> str:
    if guess.seconds is None:
        return "unknown: this model has made nothing of this size here yet"
    return f"about {clock(guess.seconds)} on one device (from {guess.from_rows} earlier results)"
