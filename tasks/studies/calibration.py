"""One row of a calibration: a full run that is measured step by step, and changed in nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from prior_engine.requests.options import RunOptions
from prior_store import recipe_key
from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.encode import embeddings_for
from tasks.making.runtime import Runtime, runtime_for
from tasks.planning.planned import PlannedVariant
from tasks.result import Result

MEASURE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredRow:
    """A row to run in full, told as full runs are."""

    variant: PlannedVariant

    @property
    def key(self) -> str:
        """The same full run is measured once."""
        shared = {name: self.variant.prior.recipe[name] for name in ("model", "identity", "schedule")}
        told = self.variant.conditioning.describe()
        return recipe_key({"kind": "calibration row", "version": MEASURE_VERSION, **shared, "conditioning": told})

    @property
    def file(self) -> str:
        """Its record, beside those of the other rows."""
        return f"row-{self.key[:20]}.json"

    @property
    def label(self) -> str:
        """As in a batch, without the start step: there is none."""
        return self.variant.label.partition(" ")[0]


def measure_rows(rows: tuple[MeasuredRow, ...], context: Context) -> list[Result]:
    """Measure rows; each is kept as soon as it is known."""
    return [_measured(row, context) for row in rows]


def _measured(work: MeasuredRow, context: Context) -> Result:
    from prior_engine.errors import RunCancelledError

    runtime = runtime_for(context)
    if runtime.stop.is_set():
        raise InterruptedBatchError("the calibration was asked to stop")
    try:
        found = _found(work, runtime)
    except RunCancelledError as stopped:
        raise InterruptedBatchError(f"{work.label} was stopped; a new calibration continues with it") from stopped
    runtime.store.put_batch_file(context.batch, work.file, json.dumps(found, ensure_ascii=False).encode())
    return Result(id=work.key, kind="row", key=work.key, identity=work.variant.name, status="done")


def _found(work: MeasuredRow, runtime: Runtime) -> dict[str, Any]:
    prior, told = work.variant.prior, work.variant.conditioning
    with runtime.lease(prior.recipe) as lease:
        options = RunOptions(
            cancel=runtime.stop.is_set,
            on_step=lambda step, steps: runtime.progress.step(work.key, work.label, step + 1, steps),
            embeddings=embeddings_for([told], lease, runtime),
        )
        _, ratios = lease.engine.calibrate(prior.identity, told, prior.schedule, options=options)
    return {"row": work.label, "prompt": told.prompt, "ratios": list(ratios)}
