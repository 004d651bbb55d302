"""The flows as Prefect sees them: typed, described parameters for its form, its schedules and its deployments.

Each is thin: prepare, run, say how it ended. Prefect's form takes its descriptions from the docstrings. From Python call
the functions of `flows`, which also see to the server; from a shell the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from flows.closing import counts
from flows.graph.batch import BatchResult, run_batch
from flows.graph.watch import OnChange
from flows.on_prefect.artifacts import publish_summary
from flows.on_prefect.door.bounds import allowed
from flows.on_prefect.orphans import name_own_process
from flows.on_prefect.shown import Shown, as_flow_run, in_flow_run
from flows.prepare import Only, Prepared, prepare, with_own_batch
from tasks.making.devices import workers_of
from tasks.secrets import masked_setting


def run_name(verb: str) -> Callable[[], str]:
    """A run that the UI or a schedule started is called after its sheet, not after the whole path to it."""

    def name() -> str:
        from prefect.runtime import flow_run

        return f"{verb} {str(flow_run.parameters.get('sheet', 'demo')).rpartition('/')[2]}"

    return name


@flow(name="render-sheet", flow_run_name=run_name("render"), persist_result=False)
def render_sheet(
    sheet: str = "demo",
    store: str | None = None,
    model: str | None = None,
    max_failures: str | None = None,
    overrides: list[str] | None = None,
) -> State[Any]:
    """Render every row of a sheet that the store lacks.

    Args:
        sheet: file or URL of the prompt sheet; `demo` is the one that ships
        store: folder or URL of the store; empty = headstart-store
        model: demo, a configured model, a diffusers folder or a hub id
        max_failures: failed rows after which to stop: a number or 5%
        overrides: further settings, one key=value each, e.g. schedule.num_inference_steps=20
    """
    lines = lines_of(overrides, sheet=sheet, store=store, model=model, max_failures=max_failures)
    return _served(lines, "all")


@flow(name="generate-prior", flow_run_name=run_name("priors of"), persist_result=False)
def generate_prior(
    sheet: str = "demo", store: str | None = None, model: str | None = None, overrides: list[str] | None = None
) -> State[Any]:
    """Record the priors of a sheet, and no variants.

    Args:
        sheet: file or URL of the prompt sheet; `demo` is the one that ships
        store: folder or URL of the store; empty = headstart-store
        model: demo, a configured model, a diffusers folder or a hub id
        overrides: further settings, one key=value each, e.g. schedule.num_inference_steps=20
    """
    lines = lines_of(overrides, sheet=sheet, store=store, model=model)
    return _served(lines, "priors")


@flow(name="infer-from-prior", flow_run_name=run_name("variants of"), persist_result=False)
def infer_from_prior(
    sheet: str = "demo",
    store: str | None = None,
    model: str | None = None,
    max_failures: str | None = None,
    overrides: list[str] | None = None,
) -> State[Any]:
    """Render the rows of a sheet whose prior is in the store; rows without one are named as failed.

    Args:
        sheet: file or URL of the prompt sheet; `demo` is the one that ships
        store: folder or URL of the store; empty = headstart-store
        model: demo, a configured model, a diffusers folder or a hub id
        max_failures: failed rows after which to stop: a number or 5%
        overrides: further settings, one key=value each, e.g. schedule.num_inference_steps=20
    """
    lines = lines_of(overrides, sheet=sheet, store=store, model=model, max_failures=max_failures)
    return _served(lines, "variants")


_FLOWS: dict[str, Any] = {"all": render_sheet, "priors": generate_prior, "variants": infer_from_prior}


def lines_of(overrides: Sequence[str] | None, **named: str | None) -> list[str]:
    """Parameters as the settings that they stand for."""
    return [f"{key}={value}" for key, value in named.items() if value] + list(overrides or [])


def parameters_of(overrides: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Settings as the parameters of a flow, the inverse of `lines_of`: the same form filled in runs the same."""
    parameters: dict[str, Any] = {}
    rest = []
    # Prefect keeps parameters in its database.
    for line in map(masked_setting, overrides):
        key, _, value = line.partition("=")
        if key in names and key != "overrides":
            parameters[key] = value
        else:
            rest.append(line)
    return {**parameters, "overrides": rest}


def run_as_flow(prepared: Prepared, overrides: Sequence[str], on_change: OnChange) -> BatchResult:
    """Run a prepared batch, shown as the flow that it is."""
    chosen = _FLOWS[prepared.only]
    parameters = parameters_of(overrides, list(chosen.parameters.properties))
    with as_flow_run(chosen, parameters, prepared.context.batch, _to_do(prepared), on_change) as shown:
        result = _run(prepared, shown)
        shown.ended(_ended(prepared, result))
    return result


def _served(lines: Sequence[str], only: Only) -> State[Any]:
    """The body of a flow that Prefect itself has started."""
    name_own_process()
    prepared = with_own_batch(prepare(allowed(lines), only))
    with in_flow_run(_to_do(prepared)) as shown:
        state = _ended(prepared, _run(prepared, shown))
        shown.ended_unheard(state)
    return state


def _to_do(prepared: Prepared) -> str:
    return f"{len(prepared.plan.variants_to_do)} variants to do"


def _run(prepared: Prepared, shown: Shown) -> BatchResult:
    result = run_batch(prepared, shown.means(workers_of(prepared.settings)))
    publish_summary(prepared, result, shown)
    return result


def _ended(prepared: Prepared, result: BatchResult) -> State[Any]:
    """The end of the flow run, as the UI shows it."""
    message = f"{counts(prepared, result)} of {result.rows}; report: {result.report}"
    if prepared.only == "priors":
        message = f"{counts(prepared, result)}; report: {result.report}"
    if result.interrupted:
        return Cancelled(message=f"interrupted: {message}")
    if result.given_up:
        return Failed(message=f"given up early, {result.why_given_up}: {message}")
    if result.failed:
        return Completed(name="CompletedWithFailures", message=message)
    return Completed(message=message)
