"""The study of an inflection as Prefect sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows.closing import study_closing
from flows.graph.study import Found, Study, prepare_study, run_study
from flows.graph.watch import OnChange
from flows.on_prefect.door.bounds import allowed
from flows.on_prefect.flows import lines_of, parameters_of, run_name
from flows.on_prefect.orphans import name_own_process
from flows.on_prefect.shown import Shown, as_flow_run, in_flow_run
from tasks.making.devices import workers_of


@flow(name="find-inflection", flow_run_name=run_name("inflection of"), persist_result=False)
def find_inflection(
    sheet: str = "demo", store: str | None = None, model: str | None = None, overrides: list[str] | None = None
) -> State[Any]:
    """Measure which start step and tail to use, and keep the answer for start_step=auto.

    Args:
        sheet: file or URL of a prompt sheet; a few of its rows are measured
        store: folder or URL of the store that keeps the answer; empty = headstart-store
        model: demo, a configured model, a diffusers folder or a hub id
        overrides: further settings, one key=value each, e.g. inflection.pairs=12
    """
    name_own_process()
    lines = lines_of(overrides, sheet=sheet, store=store, model=model)
    study = prepare_study(allowed(lines))
    with in_flow_run(_to_do(study)) as shown:
        return _ended(_run(study, lines, shown))


def run_as_flow(study: Study, overrides: Sequence[str], on_change: OnChange) -> Found:
    """Run a prepared study, shown as the flow that it is."""
    parameters = parameters_of(overrides, list(find_inflection.parameters.properties))
    name = f"inflection of {(study.prepared.settings.sheet.path or 'demo').rpartition('/')[2]}"
    with as_flow_run(find_inflection, parameters, name, _to_do(study), on_change) as shown:
        found = _run(study, overrides, shown)
        shown.ended(_ended(found))
    return found


def _to_do(study: Study) -> str:
    return f"{len(study.pairs)} pairs to measure"


def _run(study: Study, lines: Sequence[str], shown: Shown) -> Found:
    found = run_study(study, shown.means(workers_of(study.prepared.settings)))
    shown.publish("markdown", "inflection", f"```\n{study_closing(found, None, lines)}```\n", "What to use")
    return found


def _ended(found: Found) -> State[Any]:
    message = found.record["advice"]["why"]
    return Cancelled(message=f"interrupted: {message}") if found.interrupted else Completed(message=message)
