"""How a run is run and how it goes on: values that are passed through as one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from prior_engine.errors import RequestError
from prior_engine.requests.cache import Cache
from prior_engine.requests.embeddings import Conditions, Embedding
from prior_engine.requests.steps import History, Keep, Tail, parse_tail

Cancel = Callable[[], bool]
OnStep = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunOptions:
    """What any run can be given beside its request.

    `keep=None` keeps every step of a prior, and none of another run. `cancel` and `on_step` are called between steps,
    from the thread that does the work. `embeddings` and `conditions` spare the encoders what was encoded before.
    """

    keep: Keep | None = None
    cache: Cache | None = None
    cancel: Cancel | None = None
    on_step: OnStep | None = None
    embeddings: Mapping[tuple[str, str, int | None], Embedding] = field(default_factory=dict)
    conditions: Conditions | None = None

    def kept(self, total: int, otherwise: Keep) -> frozenset[int]:
        """The steps of a run of `total` that leave a snapshot, `otherwise` where nothing is said of them."""
        return (otherwise if self.keep is None else self.keep).steps(total)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResumeOptions:
    """How a run goes on from a snapshot: what must match, and how the noise that is left is walked.

    With `line`, it starts on the straight line between a prior's last latents and its first noise, as far up as the
    noise that the schedule has left after step `line`; the snapshot is then the prior's last one.
    """

    pins: Mapping[str, Any] | None = None
    tail: Tail = "exact"
    history: History = "keep"
    line: int | None = None

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "tail", parse_tail(self.tail))
        except RequestError as problem:
            raise RequestError(f"tail {problem}") from None
        if self.history not in get_args(History):
            raise RequestError(f"history={self.history!r} is not known; choose one of {sorted(get_args(History))}")
