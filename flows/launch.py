"""Runs what was prepared, with a Prefect server or without: the one place that chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flows.graph.batch import BatchResult, run_batch
from flows.graph.calibration import Calibration, run_calibration
from flows.graph.run import Means
from flows.graph.study import Found, Study, run_study
from flows.graph.watch import OnChange
from flows.on_prefect.server import connect
from flows.prepare import Prepared, with_own_batch
from flows.runners.threads import ThreadRunner
from tasks.making.devices import workers_of
from tasks.settings import Settings


def launch_batch(
    prepared: Prepared, overrides: Sequence[str], on_change: OnChange = lambda _: None
) -> tuple[BatchResult, str | None]:
    """Run a batch; returns its result, and the address of the UI where there is one."""
    ui = None if prepared.nothing_to_do else connect(prepared.settings.server)
    prepared = with_own_batch(prepared)
    if ui is None:
        return run_batch(prepared, _threads(prepared.settings, on_change)), None
    from flows.on_prefect.flows import run_as_flow

    return run_as_flow(prepared, overrides, on_change), ui


def launch_study(
    study: Study, overrides: Sequence[str], on_change: OnChange = lambda _: None
) -> tuple[Found, str | None]:
    """Run a study; returns what it found, and the address of the UI where there is one."""
    settings = study.prepared.settings
    ui = None if study.nothing_to_do else connect(settings.server)
    if ui is None:
        return run_study(study, _threads(settings, on_change)), None
    from flows.on_prefect.study import run_as_flow

    return run_as_flow(study, overrides, on_change), ui


def launch_calibration(calibration: Calibration, on_change: OnChange = lambda _: None) -> dict[str, Any]:
    """Run a calibration; returns what is kept. A few full runs need no UI."""
    return run_calibration(calibration, _threads(calibration.prepared.settings, on_change))


def _threads(settings: Settings, on_change: OnChange) -> Means:
    workers = workers_of(settings)
    return Means(make_runner=lambda: ThreadRunner(workers), on_change=on_change)
