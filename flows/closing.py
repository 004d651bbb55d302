"""How a run is told when it is over: the last lines in a terminal, and the same words in the Prefect UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flows.graph.batch import BatchResult
from flows.graph.calibration import Calibration
from flows.graph.study import Found
from flows.prepare import Prepared
from tasks.making.progress import clock
from tasks.pages.inflection import how_sure, spreads
from tasks.studies.conclusion import LEAST_PAIRS, MEASURES

_MANY_LINES = 40


def counts(prepared: Prepared, result: BatchResult) -> str:
    """What was made, in one sentence."""
    if prepared.only == "priors":
        there = sum(prior.cached for prior in prepared.plan.priors)
        return f"{result.priors} priors recorded, {there} already there, {len(result.failed)} failed"
    return f"{result.done} variants made, {result.cached} already there, {len(result.failed_rows)} failed"


def batch_closing(prepared: Prepared, result: BatchResult, ui: str | None, overrides: Sequence[str]) -> str:
    """At most ten lines: what there is, what it cost, what failed, how to go on."""
    plan = prepared.plan
    more = " --only priors" if prepared.only == "priors" else " --only variants" if prepared.only == "variants" else ""
    command = f"headstart run{more} " + " ".join(overrides)
    if prepared.nothing_to_do:
        there = f"{len(plan.priors)} priors" if prepared.only == "priors" else f"{result.rows} variants"
        lines = [f"Nothing to do: all {there} of {plan.sheet_name} are in {prepared.store.url}."]
    else:
        lines = [f"{counts(prepared, result)}, in {clock(result.seconds)}."]
        full = plan.full_steps * result.done
        beside = f", priors included; full runs of the same rows would take {full}" if full else ""
        lines.append(f"Steps:   {result.steps_run} run{beside}.")
    doubtful = [row.id for row in result.results if row.doubt]
    if doubtful:
        lines.append(f"Doubtful: {len(doubtful)}, marked in the report: {', '.join(doubtful[:3])}")
    later = f"not written, the disk is full; when there is room: headstart report {result.batch}"
    lines.append(f"Report:  {result.report or later}")
    lines.append(f"Videos:  {prepared.store.url}/{'priors' if prepared.only == 'priors' else 'variants'}")
    if ui:
        lines.append(f"UI:      {ui} (a new browser is let in by: headstart ui open)")
    failed = result.failed_rows
    lines += [f"Failed:  {row.name}: {row.error}" for row in failed[:2]]
    if len(failed) > 2:
        lines.append(f"         and {len(failed) - 2} more; the report has them all")
    if result.interrupted:
        lines.append(f"Interrupted with {result.left} rows left. Continue with: {command}")
    elif result.given_up and result.left:
        lines.append(f"Given up with {result.left} rows left: {result.why_given_up}. Continue with: {command}")
    elif failed:
        lines.append(f"To make only what is missing, run it again: {command}")
    return "\n".join(lines) + "\n"


def advised(advice: Mapping[str, Any]) -> str:
    """The settings that the advice stands for, as one types them."""
    told = "" if advice["guidance"] is None else f" model.variant_guidance={advice['guidance']:g}"
    return " ".join(f"{name}={advice[name]}" for name in ("start_step", "tail", "start")) + told


def study_closing(found: Found, ui: str | None, overrides: Sequence[str]) -> str:
    """The table of what is worth choosing from, the advice, and where the rest is."""
    record, advice = found.record, found.record["advice"]
    lines = [f"{'setting':19} {'sigma':>6} {'steps':>5}  " + " ".join(f"{name:>12}" for name in MEASURES)]
    few = len(record["lines"]) <= _MANY_LINES
    spread = spreads(record)
    for line in record["lines"]:
        if few or line["pareto"] or line["start_step"] is None:
            sigma = "" if line["sigma"] is None else f"{line['sigma']:.3f}"
            numbers = " ".join(f"{line[name]:>6.2f} {spread(line, name):5}" for name in MEASURES)
            lines.append(f"{line['name']:19} {sigma:>6} {line['steps']:>5}  {numbers}")
    if advice["start_step"] is None:
        lines.append(f"No advice: {advice['why']}")
    else:
        lines.append(f"Advice:  {advised(advice)}: {advice['steps']} steps per variant")
        lines.append(f"Sure:    {how_sure(record)}")
        lines.append(f"Why:     {advice['why']}")
    if record["mute"]:
        lines.append(
            f"Left out, because the prompt changes nothing even in a full run: {', '.join(record['mute'][:5])}"
        )
    lines.append(f"Page:    {found.page}")
    if found.interrupted:
        lines.append(f"Interrupted; continue with: headstart inflection {' '.join(overrides)}")
    elif found.kept and advice["start_step"] is not None:
        lines.append("From now on start_step=auto uses it, for this model, schedule and guidance in this store.")
    elif not found.kept:
        lines.append(f"Not kept for start_step=auto: measure {LEAST_PAIRS} pairs or more, or add --force.")
    if ui:
        lines.append(f"UI:      {ui} (a new browser is let in by: headstart ui open)")
    return "\n".join(lines) + "\n"


def calibration_closing(calibration: Calibration, record: Mapping[str, Any], *, already: bool) -> str:
    """The ratios, where they come from, and who uses them."""
    ratios, sheet = record["ratios"], calibration.prepared.plan.sheet_name
    count = len(record["rows"])
    rows = f"{count} row{'s' if count > 1 else ''} of {sheet}"
    lines = [f"Nothing to do: the full runs of {rows} were measured before."] if already else []
    lines.append(f"Ratios of {len(ratios)} steps, measured in full runs of {rows}:")
    lines += ["  " + " ".join(f"{ratio:.4f}" for ratio in ratios[at : at + 10]) for at in range(0, len(ratios), 10)]
    lines.append("From now on accel.cache=mag uses them, for this model, schedule and guidance in this store.")
    return "\n".join(lines) + "\n"
