"""Turns what went wrong with a prior or a row into data: what it was, and whether trying again may help."""

from __future__ import annotations

from tasks.context import Context
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.result import Result, may_pass, reason


def failed(work: PlannedPrior | PlannedVariant, error: BaseException, context: Context) -> Result:
    """The result of a piece of work that `error` ended."""
    kind, name = ("prior", work.key) if isinstance(work, PlannedPrior) else ("variant", work.row_id)
    return Result(
        id=name,
        kind=kind,
        key=work.key,
        identity=work.name,
        status="failed",
        error=reason(error),
        transient=may_pass(error),
        attempts=context.attempt,
    )
