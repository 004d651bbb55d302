"""What became of a piece of work. A failure is data: it is reported, and the work can be done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# done: made by this run. cached: found made, by whomever. same: shares what another row of this run made.
Status = Literal["done", "cached", "same", "failed"]

# Storage and network come back by themselves; wrong inputs, NaN and missing files do not.
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, ValueError)
_LASTING_NAMES = frozenset({"NoSpaceError", "ClaimTimeoutError", "DamagedError"})
_SPEAK_FOR_THEMSELVES = frozenset({"EngineError", "StoreError", "BatchError"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How one piece of work ended. `id` is the row's name, or the key where there is no row."""

    id: str
    kind: str
    key: str
    status: Status
    identity: str = ""
    error: str | None = None
    transient: bool = False
    # Whether all that is left would meet the same end, so that it is not worth trying: the disk is full.
    for_all: bool = False
    steps_run: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    doubt: str | None = None
    # What was found out, where that is not kept in the store.
    value: Any = None

    @property
    def name(self) -> str:
        """How people call it."""
        return f"prior of {self.identity}" if self.kind == "prior" else self.id

    @property
    def failed(self) -> bool:
        """Whether it came to nothing."""
        return self.status == "failed"

    @property
    def work_seconds(self) -> float:
        """Seconds of work; loading the model is left out, since one row pays it for all."""
        return sum(self.seconds.values()) - self.seconds.get("load", 0.0)


def may_pass(error: BaseException) -> bool:
    """Could the same work succeed a moment later?"""
    if isinstance(error, _LASTING) or type(error).__name__ in _LASTING_NAMES:
        return False
    return isinstance(error, OSError | ConnectionError | TimeoutError) or type(error).__name__ == "ClaimLostError"


def meets_all(error: BaseException) -> bool:
    """Would whatever comes next end the same way?"""
    return type(error).__name__ == "NoSpaceError"


def reason(error: BaseException) -> str:
    """What to say of an error: our own speak for themselves, others are named."""
    text = str(error) or type(error).__name__
    ours = any(kind.__name__ in _SPEAK_FOR_THEMSELVES for kind in type(error).__mro__)
    return text if ours else f"{type(error).__name__}: {text}"
