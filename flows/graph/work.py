"""Work, and graphs of it: what there is to do, what has to be there first, and what is called for it.

A batch, a study, a care of the store differ in their graphs alone; one driver walks them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

from tasks.context import Context
from tasks.result import Result, Status

Call = Callable[[tuple[Any, ...], Context], Sequence[Result]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One piece of work. Works with the same key are made once; works of one group may share a task run."""

    id: str
    kind: str
    title: str
    call: Call
    item: Any
    key: str | None = None
    needs: tuple[str, ...] = ()
    group: str | None = None
    identity: str = ""
    # How those that need it speak of it: "the prior of 'fox'".
    spoken: str = ""
    # Whether the run is over when it fails, since everything else would meet the same error.
    vital: bool = False

    def ended(self, status: Status, error: str | None = None) -> Result:
        """Its result, where the task that ran it gave none."""
        return Result(
            id=self.id, kind=self.kind, key=self.key or self.id, identity=self.identity, status=status, error=error
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """All works of a run, parents before children, and the rules that the driver keeps."""

    works: tuple[Work, ...]
    # Is it made, by the store? Asked only where a task ended without telling what it had finished.
    is_made: Callable[[Work], bool]
    # And was it this run that made it? Only what it made is counted as made.
    made_here: Callable[[Work], bool] = lambda _: True
    # Works that open others and are in flight at once: more would only pile up what waits for a device.
    look_ahead: int = 2
    chunk_size: int | Literal["auto"] = "auto"
    # Failed works of this kind end the run early when there are more than so many.
    counted: str = "variant"
    max_failures: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Works that run together, one after the other, in one task run."""

    works: tuple[Work, ...]
    context: Context
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """How it shows to those who look on."""
        more = f" and {len(self.works) - 1} more" if len(self.works) > 1 else ""
        return f"{self.works[0].title}{more}"

    @property
    def tags(self) -> list[str]:
        """The batch and the identity, to find it by."""
        return [tag for tag in (self.context.batch, self.works[0].identity) if tag]


class Runner(Protocol):
    """Takes chunks, tells when they have ended. Used in a `with` block, which waits for what runs."""

    workers: int
    # Whether chunks may run in other processes, which hear of a stop only through the store.
    far: bool

    def submit(self, chunk: Chunk, done: Callable[[Any], None]) -> None:
        """Have the chunk run; give its results, or the exception that it raised, to `done`."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(self, *_: object) -> None:
        """Wait for what runs, then end."""
