"""Runs a batch whose rows cost nothing, as the command line runs one: for watching the machinery around them.

    python many_rows.py FAIL_EVERY STOP_AFTER override...

Every FAIL_EVERY-th row fails (0 = none); after STOP_AFTER rows the batch is told to stop (0 = never).
"""

import itertools
import sys
from collections.abc import Sequence
from typing import Any

from flows.graph import driver as batch
from tasks.errors import InterruptedBatchError, RowsFailedError
from tasks.making.runtime import runtime_for
from tasks.planning.work import BatchContext, PriorWork, RowResult, VariantWork

_COUNT = itertools.count(1)


def encode_prompts(conditionings: Any, context: BatchContext) -> int:
    """Nothing is encoded."""
    return len(conditionings)


def make_prior(work: PriorWork, context: BatchContext) -> list[RowResult]:
    """A prior of no steps."""
    return [RowResult(kind="prior", key=work.key, row_id="", identity=work.name, status="done", steps_run=4)]


def make_variants(chunk: Sequence[VariantWork], prior: PriorWork, context: BatchContext) -> list[RowResult]:
    """Rows of no steps, some of them failing."""
    runtime, results = runtime_for(context), []
    if runtime.stop.is_set():
        raise InterruptedBatchError("the batch was told to stop")
    for work in chunk:
        number = next(_COUNT)
        bad = FAIL_EVERY and number % FAIL_EVERY == 0
        made = {"kind": "variant", "key": work.key, "row_id": work.row_id, "identity": work.name}
        results.append(RowResult(**made, status="failed" if bad else "done", error="it broke" if bad else None))
        if number == STOP_AFTER:
            runtime.stop.set()
    if any(result.status == "failed" for result in results):
        raise RowsFailedError("it broke", results)
    return results


if __name__ == "__main__":
    FAIL_EVERY, STOP_AFTER = int(sys.argv[1]), int(sys.argv[2])
    batch.encode_prompts, batch.make_prior, batch.make_variants = encode_prompts, make_prior, make_variants
    from flows.cli.run import launch

    sys.exit(launch(sys.argv[3:], json_logs=False, quiet=True))
