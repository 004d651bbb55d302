"""The study of an inflection as Prefect sees it."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from flows.cli.terminal import OnChange
from flows.graph.study import Found, Study, prepare_study, run_study, told
from flows.on_prefect.artifacts import watch_progress
from flows.runners.prefect import PrefectRunner
from tasks.making.devices import workers_of


@dataclass
class _Handed:
    study: Study
    on_change: OnChange
    found: Found | None = None


_HANDED: contextvars.ContextVar[_Handed | None] = contextvars.ContextVar("handed_study", default=None)


@flow(name="find-inflection", flow_run_name="inflection of {sheet}", persist_result=False)
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
    from prefect.artifacts import create_markdown_artifact

    named = {"sheet": sheet, "store": store, "model": model}
    lines = [f"{key}={value}" for key, value in named.items() if value] + list(overrides or [])
    handed = _HANDED.get()
    study = handed.study if handed else prepare_study(lines)
    on_change = handed.on_change if handed else (lambda _: None)
    workers = workers_of(study.prepared.settings)
    with watch_progress(f"{len(study.pairs)} pairs to measure", beside=on_change) as watcher:
        found = run_study(
            study,
            lambda: PrefectRunner(study.prepared.settings, workers),
            stop=watcher.stop,
            on_change=watcher.on_change,
        )
    if handed:
        handed.found = found
    create_markdown_artifact(
        markdown=f"```\n{told(found, None, lines)}```\n", key="inflection", description="What to use"
    )
    message = found.record["advice"]["why"]
    return Cancelled(message=f"interrupted: {message}") if found.interrupted else Completed(message=message)


def run_as_flow(study: Study, overrides: list[str], on_change: OnChange) -> Found:
    """Run the flow on a study that this process has prepared already."""
    handed = _Handed(study, on_change)
    token = _HANDED.set(handed)
    try:
        state: Any = find_inflection(
            sheet=study.prepared.settings.sheet.path or "demo", overrides=overrides, return_state=True
        )
    finally:
        _HANDED.reset(token)
    if handed.found is None:
        state.result()
        raise RuntimeError(f"the flow run ended as {state.name}: {state.message}")
    return handed.found
