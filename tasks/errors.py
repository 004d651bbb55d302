"""What can go wrong between a sheet and a finished batch.

BatchError
  SettingsError     (ValueError)    the configuration is wrong; nothing was run
  SheetError        (ValueError)    the sheet has mistakes, all of them told; nothing was run
  PlanError         (ValueError)    sheet, model and store do not fit together; nothing was run
  ServerError       (RuntimeError)  the Prefect server cannot be reached or started
  InterruptedBatchError (RuntimeError)  stopped on request; what was finished is kept, and told in its results
  RowsFailedError   (RuntimeError)  some rows of a task failed; carries their results
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.secrets import mask


class BatchError(Exception):
    """Something that a batch cannot go on from. Catch this to catch them all.

    Messages are shown, logged and kept by Prefect, so no secret gets into one.
    """

    def __init__(self, message: str = "", *more: Any) -> None:
        super().__init__(mask(message), *more)


class SettingsError(BatchError, ValueError):
    """The configuration is wrong; every problem is in the message, nothing was run."""


class SheetError(BatchError, ValueError):
    """The sheet has mistakes; every one is in the message, nothing was run."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(map(mask, problems))


class PlanError(BatchError, ValueError):
    """Sheet, model and store do not fit together; nothing was run."""


class ServerError(BatchError, RuntimeError):
    """The Prefect server cannot be reached or started."""


class _TaskError(BatchError, RuntimeError):
    """Ended a task in the middle; `results` holds the rows of that task that came to an end."""

    def __init__(self, message: str, results: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.results = tuple(results)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.args[0], self.results))


class InterruptedBatchError(_TaskError):
    """Stopped on request at a step boundary; what was finished is kept."""


class RowsFailedError(_TaskError):
    """Some rows of a task failed, and are among its results."""
