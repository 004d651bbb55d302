"""Turns what went wrong with one row into data: what it was, and whether trying again may help."""

from __future__ import annotations

from tasks.planning.work import PriorWork, RowResult, VariantWork

# Storage and network come back by themselves; wrong inputs, NaN and missing files do not.
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError)


def may_pass(error: BaseException) -> bool:
    """Could the same work succeed a moment later?"""
    if isinstance(error, _LASTING) or type(error).__name__ in {"NoSpaceError", "ClaimTimeoutError", "DamagedError"}:
        return False
    return isinstance(error, OSError | ConnectionError | TimeoutError) or type(error).__name__ == "ClaimLostError"


def failed(work: PriorWork | VariantWork, error: BaseException) -> RowResult:
    """The result of a row that `error` ended."""
    text = str(error) or type(error).__name__
    known = any(kind.__name__ in {"EngineError", "StoreError", "BatchError"} for kind in type(error).__mro__)
    return RowResult(
        kind="prior" if isinstance(work, PriorWork) else "variant",
        key=work.key,
        row_id="" if isinstance(work, PriorWork) else work.row_id,
        identity=work.name,
        status="failed",
        error=text if known else f"{type(error).__name__}: {text}",
        transient=may_pass(error),
    )
