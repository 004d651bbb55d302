"""Flows: in what order things happen; the command line and the settings.

From Python, in a notebook or a script of one's own:

    from flows import render_sheet

    result = render_sheet(sheet="my.csv", overrides=["schedule.num_inference_steps=20", "server=none"])
    print(result.report, result.done, [row.error for row in result.failed])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.graph.batch import BatchResult
    from flows.graph.care import Maintained
    from flows.graph.study import Found

__all__ = ["find_inflection", "generate_prior", "infer_from_prior", "maintain_store", "render_sheet"]


def render_sheet(sheet: str = "demo", *, overrides: Sequence[str] = ()) -> BatchResult:
    """Make every row of a sheet that the store lacks."""
    return _launched(sheet, overrides, "all")


def generate_prior(sheet: str = "demo", *, overrides: Sequence[str] = ()) -> BatchResult:
    """Record the priors of a sheet, and no variants."""
    return _launched(sheet, overrides, "priors")


def infer_from_prior(sheet: str = "demo", *, overrides: Sequence[str] = ()) -> BatchResult:
    """Render the rows of a sheet whose prior is in the store; the others are named as failed."""
    return _launched(sheet, overrides, "variants")


def find_inflection(sheet: str = "demo", *, overrides: Sequence[str] = ()) -> Found:
    """Measure which start step and tail to use; `start_step=auto` uses the answer from then on."""
    from flows.graph.study import prepare_study
    from flows.launch import launch_study
    from flows.on_prefect.server import quiet_environment

    quiet_environment()
    lines = [f"sheet={sheet}", *overrides]
    return launch_study(prepare_study(lines), lines)[0]


def maintain_store(store: str = "headstart-store", *, quick: bool = False, delete: bool = False) -> Maintained:
    """Verify a store, merge its manifest files, collect what nothing names (with `delete`, remove it)."""
    from flows.graph.care import care_settings, run_care
    from flows.graph.run import Means
    from flows.runners.threads import ThreadRunner

    settings = care_settings([f"store={store}"])
    return run_care(settings, Means(make_runner=lambda: ThreadRunner(1)), quick=quick, delete=delete)


def _launched(sheet: str, overrides: Sequence[str], only: Any) -> BatchResult:
    from flows.launch import launch_batch
    from flows.on_prefect.server import quiet_environment
    from flows.prepare import prepare

    quiet_environment()
    lines = [f"sheet={sheet}", *overrides]
    return launch_batch(prepare(lines, only), lines)[0]
