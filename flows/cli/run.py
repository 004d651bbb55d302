"""What `headstart run` and `headstart plan` print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from flows.cli.exit_codes import EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from flows.cli.terminal import live, set_up_logging
from flows.closing import batch_closing
from flows.launch import launch_batch
from flows.on_prefect.server import quiet_environment
from flows.prepare import Only, prepare
from tasks.making.progress import clock
from tasks.planning.document import plan_document
from tasks.planning.estimate import Estimate, estimate
from tasks.planning.models.memory import books, told
from tasks.planning.plan import Plan

_NOTES = 20


def run(overrides: Sequence[str], *, json_logs: bool, quiet: bool, only: Only = "all") -> int:
    """Run a batch; returns the exit code."""
    quiet_environment()
    set_up_logging(as_json=json_logs)
    prepared = prepare(overrides, only)
    _tell_notes(prepared.plan)
    with live(quiet=quiet or prepared.nothing_to_do, as_json=json_logs) as on_change:
        result, ui = launch_batch(prepared, overrides, on_change)
    sys.stdout.write(batch_closing(prepared, result, ui, overrides))
    if result.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if result.failed else EXIT_DONE


def show_plan(overrides: Sequence[str], *, as_json: bool) -> int:
    """Print what a run would do."""
    prepared = prepare(overrides)
    plan, guess = prepared.plan, estimate(prepared.plan, prepared.store)
    if as_json:
        document = plan_document(plan, prepared.context.batch, prepared.sheet.digest)
        sys.stdout.write(json.dumps(document | {"estimate": guess.as_plain()}, ensure_ascii=False) + "\n")
        return EXIT_DONE
    _tell_notes(plan)
    to_do = plan.variants_to_do
    rows = [
        ("sheet", f"{plan.sheet_name}: {len(plan.variants)} rows, {len(plan.priors)} priors"),
        ("cached", f"{len(plan.variants) - len(to_do)} variants, {sum(prior.cached for prior in plan.priors)} priors"),
        ("to do", f"{len(to_do)} variants, {len(plan.priors_to_do)} priors"),
        ("start", f"{_start_line(plan)} ({plan.start_from})"),
        *_guidance_lines(plan),
        ("steps", f"{plan.steps_to_run} to run; full runs of the missing rows: {plan.steps_from_scratch}"),
        ("time", _time_line(guess)),
        ("memory", told(books(prepared.settings, prepared.model, prepared.sheet))),
        ("room", "unknown" if guess.bytes is None else f"about {guess.bytes / 2**20:,.1f} MiB"),
        ("store", str(prepared.store.url)),
    ]
    sys.stdout.write("".join(f"{name:8}{value}\n" for name, value in rows))
    return EXIT_DONE


def _tell_notes(plan: Plan) -> None:
    for warning in plan.warnings[:_NOTES]:
        sys.stderr.write(f"note: {warning}\n")


def _guidance_lines(plan: Plan) -> list[tuple[str, str]]:
    """Told where variants are not run as their priors are."""
    told = [row.conditioning.guidance for row in plan.variants if not row.way.is_full]
    ours = sorted({guidance for guidance in told if guidance is not None})
    theirs = sorted({guidance for prior in plan.priors if (guidance := prior.conditioning.guidance) is not None})
    if not ours or ours == theirs:
        return []
    listed = [", ".join(f"{value:g}" for value in values[:5]) for values in (ours, theirs)]
    return [("guided", f"variants by {listed[0]}, priors by {listed[1]}")]


def _start_line(plan: Plan) -> str:
    where = f"after step {plan.start.start_step} of {plan.full_steps}"
    return where if plan.start.start == "snapshot" else f"{where}, on the straight line"


def _time_line(guess: Estimate) -> str:
    if guess.seconds is None:
        return "unknown: this model has made nothing of this size here yet"
    return f"about {clock(guess.seconds)} on one device (from {guess.from_rows} earlier results)"
