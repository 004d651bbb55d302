"""What `headstart inflection` and `headstart calibrate` print."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from flows.cli.exit_codes import EXIT_DONE, EXIT_INTERRUPTED
from flows.cli.terminal import live, set_up_logging
from flows.closing import calibration_closing, study_closing
from flows.graph.calibration import prepare_calibration
from flows.graph.study import prepare_study
from flows.launch import launch_calibration, launch_study
from flows.on_prefect.server import quiet_environment
from tasks.errors import InterruptedBatchError


def study(overrides: Sequence[str], *, as_json: bool, quiet: bool) -> int:
    """Run a study; returns the exit code."""
    quiet_environment()
    set_up_logging(as_json=False)
    prepared = prepare_study(overrides)
    with live(quiet=quiet or as_json or prepared.nothing_to_do) as on_change:
        found, ui = launch_study(prepared, overrides, on_change)
    text = (
        json.dumps(found.record, ensure_ascii=False, indent=1) + "\n"
        if as_json
        else study_closing(found, ui, overrides)
    )
    sys.stdout.write(text)
    return EXIT_INTERRUPTED if found.interrupted else EXIT_DONE


def calibrate(overrides: Sequence[str], *, as_json: bool, quiet: bool) -> int:
    """Run a calibration; returns the exit code."""
    quiet_environment()
    set_up_logging(as_json=False)
    prepared = prepare_calibration(overrides)
    there = prepared.nothing_to_do
    try:
        with live(quiet=quiet or as_json or there) as on_change:
            record = launch_calibration(prepared, on_change)
    except InterruptedBatchError as stopped:
        sys.stderr.write(f"interrupted: {stopped}\n")
        return EXIT_INTERRUPTED
    text = (
        json.dumps(record, ensure_ascii=False, indent=1) + "\n"
        if as_json
        else calibration_closing(prepared, record, already=there)
    )
    sys.stdout.write(text)
    return EXIT_DONE
