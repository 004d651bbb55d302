"""The study of an inflection as Prefect sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows.closing import study_closing
from flows.graph.run import Means
from flows.graph.study import Found, Study, prepare_study, run_study
from flows.graph.watch import OnChange
from flows.on_prefect.flows import in_this_process, lines_of, parameters_of, run_name
from flows.on_prefect.watching import watch_progress
from flows.runners.prefect_tasks import PrefectRunner
from tasks.errors import ServerError
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
    lines = lines_of(overrides, sheet=sheet, store=store, model=model)
    return _ended(_run(prepare_study(lines), None), lines)


def run_as_flow(study: Study, overrides: Sequence[str], on_change: OnChange) -> Found:
    """Run a prepared study as the flow that it is."""
    results: list[Found] = []

    def run() -> State[Any]:
        results.append(_run(study, on_change))
        return _ended(results[0], overrides)

    parameters = parameters_of(overrides, list(find_inflection.parameters.properties))
    name = f"inflection of {(study.prepared.settings.sheet.path or 'demo').rpartition('/')[2]}"
    state = in_this_process(find_inflection, parameters, name, run)
    if not results:
        state.result()
        raise ServerError(f"the flow run ended as {state.name}: {state.message}; see the Prefect UI")
    return results[0]


def _run(study: Study, on_change: OnChange | None) -> Found:
    settings = study.prepared.settings
    with watch_progress(f"{len(study.pairs)} pairs to measure", on_change) as watcher:
        means = Means(
            make_runner=lambda: PrefectRunner(settings.runner, workers_of(settings)),
            stop=watcher.stop,
            on_change=watcher.on_change,
        )
        return run_study(study, means)


def _ended(found: Found, lines: Sequence[str]) -> State[Any]:
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        markdown=f"```\n{study_closing(found, None, lines)}```\n", key="inflection", description="What to use"
    )
    message = found.record["advice"]["why"]
    return Cancelled(message=f"interrupted: {message}") if found.interrupted else Completed(message=message)
