"""What every task of a run needs to know: small and plain, so that it can travel to another process."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One run. `batch` names its folder in the store; `attempt` counts the tries of the work at hand."""

    batch: str
    settings: Settings
    attempt: int = 1
