"""The flows as Prefect sees them: typed, described parameters for its form, its schedules and its deployments.

Each is thin: compose, plan, run, say how it ended. Prefect's form takes its descriptions from the docstrings. From Python
call the functions of `flows`, which also see to the server; from a shell the command line.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from flows.cli.terminal import OnChange
from flows.graph.batch import BatchResult, run_batch
from flows.on_prefect.artifacts import publish_summary, watch_progress
from flows.prepare import Only, Prepared, prepare
from flows.runners.prefect import PrefectRunner
from tasks.errors import ServerError
from tasks.making.devices import workers_of


@dataclass
class _Handed:
    """What a caller in this process gives to the flow beside its parameters, and what it gets back."""

    prepared: Prepared
    on_change: OnChange
    result: BatchResult | None = None


_HANDED: contextvars.ContextVar[_Handed | None] = contextvars.ContextVar("handed", default=None)


def _named(verb: str) -> Callable[[], str]:
    """A run that the UI or a schedule started is called after its sheet, not after the whole path to it."""

    def name() -> str:
        from prefect.runtime import flow_run

        return f"{verb} {str(flow_run.parameters.get('sheet', 'demo')).rpartition('/')[2]}"

    return name


@flow(name="render-sheet", flow_run_name=_named("render"), persist_result=False)
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
    return _run(_lines(overrides, sheet=sheet, store=store, model=model, max_failures=max_failures), "all")


@flow(name="generate-prior", flow_run_name=_named("priors of"), persist_result=False)
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
    return _run(_lines(overrides, sheet=sheet, store=store, model=model), "priors")


@flow(name="infer-from-prior", flow_run_name=_named("variants of"), persist_result=False)
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
    return _run(_lines(overrides, sheet=sheet, store=store, model=model, max_failures=max_failures), "variants")


@flow(name="maintain-store", flow_run_name="maintain {store}", persist_result=False)
def maintain_store(
    store: str = "headstart-store",
    quick: bool = False,  # noqa: FBT001, FBT002  a form field
    delete: bool = False,  # noqa: FBT001, FBT002
    overrides: list[str] | None = None,
) -> State[Any]:
    """Verify a store, merge its manifest files, collect what nothing names.

    Args:
        store: folder or URL of the store
        quick: compare sizes only, no digests
        delete: remove what no row names; otherwise only tell
        overrides: further settings, one key=value each
    """
    from flows.graph.care import maintain, told

    done = maintain([f"store={store}", *(overrides or [])], quick=quick, delete=delete)
    return Completed(message=told(done)) if done.report.ok else Failed(message=told(done))


def _lines(overrides: list[str] | None, **named: str | None) -> list[str]:
    return [f"{key}={value}" for key, value in named.items() if value] + list(overrides or [])


def _run(overrides: list[str], only: Only) -> State[Any]:
    handed = _HANDED.get()
    prepared = handed.prepared if handed else prepare(overrides, only)
    with watch_progress(
        f"{len(prepared.plan.variants_to_do)} variants to do", handed.on_change if handed else None
    ) as watcher:
        result = run_batch(
            prepared,
            lambda: PrefectRunner(prepared.settings, workers_of(prepared.settings)),
            stop=watcher.stop,
            on_change=watcher.on_change,
        )
    if handed:
        handed.result = result
    publish_summary(prepared, result)
    return state_of(result)


def state_of(result: BatchResult) -> State[Any]:
    """The end of the flow run, as the UI shows it."""
    failed = sum(row.kind == "variant" for row in result.failed)
    message = f"{result.done} done, {result.cached} cached, {failed} failed of {result.rows}; report: {result.report}"
    if result.interrupted:
        return Cancelled(message=f"interrupted: {message}")
    if result.over_limit:
        return Failed(message=f"more failures than max_failures allows: {message}")
    if result.failed:
        return Completed(name="CompletedWithFailures", message=message)
    return Completed(message=message)


@contextlib.contextmanager
def _handing_over(prepared: Prepared, on_change: OnChange) -> Iterator[_Handed]:
    handed = _Handed(prepared, on_change)
    token = _HANDED.set(handed)
    try:
        yield handed
    finally:
        _HANDED.reset(token)


def run_prepared(prepared: Prepared, overrides: list[str], on_change: OnChange) -> BatchResult:
    """Run the flow on a batch that this process has prepared already."""
    chosen: Any = {"all": render_sheet, "priors": generate_prior, "variants": infer_from_prior}[prepared.only]
    with _handing_over(prepared, on_change) as handed:
        configured = chosen.with_options(flow_run_name=prepared.context.batch)
        state = configured(sheet=prepared.settings.sheet.path or "demo", overrides=overrides, return_state=True)
    if handed.result is None:
        # The flow ended before its batch did: say what it died of.
        state.result()
        raise ServerError(f"the flow run ended as {state.name}: {state.message}; see the Prefect UI")
    return handed.result
