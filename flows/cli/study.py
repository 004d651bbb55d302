"""What `headstart inflection` prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from flows.cli.exit_codes import EXIT_DONE, EXIT_INTERRUPTED
from flows.cli.terminal import live, set_up_logging
from flows.closing import study_closing
from flows.graph.study import prepare_study
from flows.launch import launch_study
from flows.on_prefect.server import quiet_environment


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
