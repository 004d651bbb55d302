"""What variants start from: snapshots and last latents of their parents, read once for all that share them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.errors import PlanError
from tasks.making.prior import step_file
from tasks.planning.planned import PlannedVariant

if TYPE_CHECKING:
    from prior_engine import Snapshot
    from prior_store import Commit, Store


class Parents:
    """The parents of one chunk; the one read last stays in memory."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._snapshots: dict[tuple[str, int], tuple[Snapshot, Any]] = {}
        self._homes: dict[str, Any] = {}

    def home(self, work: PlannedVariant) -> Any:
        """Where the parent's own walk ended, in latents."""
        if work.parent_key not in self._homes:
            commit = self.commit_of(work)
            self._homes = {work.parent_key: self._store.read_tensors(commit, _last_file(work, commit))[0]["latents"]}
        return self._homes[work.parent_key]

    def commit_of(self, work: PlannedVariant) -> Commit:
        commit: Commit | None = self._store.commit_of(work.parent_kind, work.parent_key)
        if commit is None:
            raise PlanError(
                f"the {work.parent_kind[:-1]} {work.parent_key[:12]} that {work.row_id!r} starts from is not in the store; "
                "record it first: headstart run --only priors"
            )
        return commit

    def snapshot(self, work: PlannedVariant, start: int) -> tuple[Snapshot, Any]:
        """The snapshot to start from, read once for all variants of this chunk that share it."""
        from prior_engine import Snapshot

        on_line = work.way.start == "line"
        name = (work.parent_key, -1 if on_line else start)
        if name not in self._snapshots:
            commit = self.commit_of(work)
            file = _last_file(work, commit) if on_line else step_file(start)
            if file not in commit.files:
                kept = sorted(int(kept_file[5:9]) for kept_file in commit.files if kept_file.startswith("step_"))
                raise PlanError(f"prior {work.name!r} keeps the steps {kept}, not {start}; start from one of these")
            self._snapshots = {name: (Snapshot.from_parts(*self._store.read_tensors(commit, file)), commit.pins)}
        return self._snapshots[name]


def _last_file(work: PlannedVariant, commit: Commit) -> str:
    """The file of where the parent's own walk ended."""
    if work.parent_kind == "variants":
        return "latents.safetensors"
    return max((file for file in commit.files if file.startswith("step_")), default="")
