"""Runs a batch whose rows cost nothing, as the command line runs one: for watching the machinery around them.

    python many_rows.py FAIL_EVERY STOP_AFTER override...

Every FAIL_EVERY-th row fails (0 = none); after STOP_AFTER rows the batch is told to stop (0 = never). A row takes
HEADSTART_TEST_ROW_S seconds, and its number is written to the file HEADSTART_TEST_ROWS, where these are set; from the
hundredth on rows wait for the file HEADSTART_TEST_GATE.
"""

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Any

from flows.graph import batch
from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.runtime import runtime_for
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.result import Result

_COUNT = itertools.count(1)
ROW_S = float(os.environ.get("HEADSTART_TEST_ROW_S", "0"))
ROWS_FILE = Path(os.environ["HEADSTART_TEST_ROWS"]) if "HEADSTART_TEST_ROWS" in os.environ else None

GATE = Path(os.environ["HEADSTART_TEST_GATE"]) if "HEADSTART_TEST_GATE" in os.environ else None


def encode_prompts(works: tuple[Any, ...], context: Context) -> list[Result]:
    """Nothing is encoded."""
    return [Result(id="prompts", kind="prompts", key="prompts", status="done")]


def make_prior(works: tuple[PlannedPrior, ...], context: Context) -> list[Result]:
    """Priors of no steps."""
    return [
        Result(id=one.key, kind="prior", key=one.key, identity=one.name, status="done", steps_run=4) for one in works
    ]


def make_variants(chunk: tuple[PlannedVariant, ...], context: Context) -> list[Result]:
    """Rows of no steps, some of them failing."""
    runtime, results = runtime_for(context), []
    if runtime.stop.is_set():
        raise InterruptedBatchError("the batch was told to stop")
    for work in chunk:
        number = next(_COUNT)
        time.sleep(ROW_S)
        while GATE is not None and number >= 100 and not GATE.exists():
            time.sleep(0.01)
        if ROWS_FILE is not None:
            ROWS_FILE.write_text(str(number))
        bad = FAIL_EVERY and number % FAIL_EVERY == 0
        made = {"id": work.row_id, "kind": "variant", "key": work.key, "identity": work.name}
        results.append(Result(**made, status="failed" if bad else "done", error="it broke" if bad else None))
        if number == STOP_AFTER:
            runtime.stop.set()
    return results


if __name__ == "__main__":
    FAIL_EVERY, STOP_AFTER = int(sys.argv[1]), int(sys.argv[2])
    batch.encode_prompts, batch.make_prior, batch.make_variants = encode_prompts, make_prior, make_variants
    from flows.cli.run import run

    sys.exit(run(sys.argv[3:], json_logs=False, quiet=True))
