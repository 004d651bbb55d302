"""One attempt at one key, from the claim to the commit."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from prior_store import layout
from prior_store.backends.files import Content, Files
from prior_store.errors import DamagedError, DifferentBytesError, ExactnessError, RecipeError
from prior_store.manifest import schema
from prior_store.objects import lease, tensors
from prior_store.objects.commit import Commit, FileInfo, read_commit
from prior_store.objects.damage import judged
from prior_store.recipe import canonical_form, recipe_key

log = logging.getLogger("headstart.store")

HEAD: Final = 64 * 2**10
"""More than any snapshot's header needs; the rest of a leftover is read when it is adopted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A whole snapshot of an attempt that ended without a commit."""

    step: int
    name: str
    path: str
    bytes: int


class Claim(AbstractContextManager["Claim"]):
    """Our right to make a key; or, if `commit` is set, the news that there is nothing left to do."""

    def __init__(
        self,
        files: Files,
        kind: str,
        key: str,
        *,
        add_rows: Callable[[Iterable[Mapping[str, Any]]], None],
        digests: bool,
        ttl_s: float,
        wait_s: float | None,
        on_wait: Callable[[str, float], None] | None,
        cancel: Callable[[], bool] | None,
    ) -> None:
        self.kind, self.key = layout.checked_kind(kind), layout.checked_key(key)
        self.commit: Commit | None = None
        self._backend, self._add_rows, self._digests = files, add_rows, digests
        self._options: dict[str, Any] = {"ttl_s": ttl_s, "wait_s": wait_s, "on_wait": on_wait, "cancel": cancel}
        self._lease: lease.Lease | None = None
        self._files: dict[str, FileInfo] = {}
        self.attempt = ""

    def __enter__(self) -> Self:
        """Wait until the key is ours or done."""
        self._lease = lease.acquire(
            self._backend, self.kind, self.key, is_committed=self._look_for_commit, **self._options
        )
        generation = self._lease.holder.generation if self._lease else 0
        self.attempt = layout.new_attempt(generation)
        if self._lease is not None and not self._is_ours_to_make(self._lease):
            self._lease = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one in, whatever happened."""
        if self._lease is not None:
            self._lease.end(committed=self.commit is not None)

    def check(self) -> None:
        """Raise ClaimLostError if somebody else has taken the key over; worth asking before long work."""
        if self._lease is not None:
            self._lease.check()

    def put_tensors(
        self,
        name: str,
        values: Mapping[str, Any],
        metadata: Mapping[str, str] | None = None,
        *,
        storage_dtype: str | None = None,
    ) -> FileInfo:
        """Keep tensors as one safetensors file of this attempt, in the dtype they have unless told otherwise."""
        return self._put(name, tensors.encode(values, metadata, storage_dtype), storage_dtype)

    def put_file(self, name: str, content: Content, *, storage_dtype: str | None = None) -> FileInfo:
        """Keep bytes, or a local file by its path, as one file of this attempt; say so if they were lowered already."""
        return self._put(name, content, storage_dtype)

    def leftover(self) -> dict[int, Leftover]:
        """Find the whole snapshots of the abandoned attempt that got furthest, by step."""
        folder = layout.object_dir(self.kind, self.key)
        attempts: dict[str, dict[int, Leftover]] = {}
        listed = self._backend.find(folder)
        # An attempt that holds a commit record was set aside: nobody knows which of its bytes are right.
        spoilt = {path.split("/")[-2] for path in listed if path.endswith(f"/{layout.COMMIT}")}
        for path, entry in listed.items():
            attempt, _, name = path.removeprefix(f"{folder}/").rpartition("/")
            step = layout.step_of(name)
            if step is None or not attempt or attempt in (self.attempt, *spoilt):
                continue
            if self._is_whole(path, entry.bytes):
                attempts.setdefault(attempt, {})[step] = Leftover(step=step, name=name, path=path, bytes=entry.bytes)
        furthest = max(attempts.values(), key=lambda steps: (len(steps), max(steps)), default={})
        return dict(sorted(furthest.items()))

    def adopt(self, steps: Iterable[Leftover] | Mapping[int, Leftover]) -> dict[str, FileInfo]:
        """Take leftover snapshots into this attempt, after reading them whole."""
        self.check()
        adopted = {}
        for left in steps.values() if isinstance(steps, Mapping) else steps:
            target = layout.attempt_path(self.kind, self.key, self.attempt, left.name)
            self._backend.copy(left.path, target)
            head = self._backend.read(target)
            tensors.check_whole(head, len(head), target)
            adopted[left.name] = FileInfo(bytes=len(head), sha256=tensors.bytes_sha256(head))
        self._files.update(adopted)
        return adopted

    def publish(
        self,
        *,
        recipe: Mapping[str, Any],
        pins: Mapping[str, Any] | None = None,
        timings: Mapping[str, Any] | None = None,
        versions: Mapping[str, Any] | None = None,
        row: Mapping[str, Any] | None = None,
        defer_row: bool = False,
    ) -> Commit:
        """Commit what was put, then list it. With `defer_row` the caller lists many commits at once (`add_rows`)."""
        if recipe_key(recipe) != self.key:
            raise RecipeError(f"the recipe does not belong to key {self.key[:12]!r}; claim with recipe_key(recipe)")
        self._refuse_lowered(recipe)
        now = schema.utc_now().isoformat()
        commit = Commit(
            kind=self.kind,
            key=self.key,
            attempt=self.attempt,
            created_at=now,
            files=dict(sorted(self._files.items())),
            recipe=canonical_form(recipe),
            pins=dict(pins or {}),
            timings=dict(timings or {}),
            versions=dict(versions or {}),
            row={},
        )
        commit = commit.with_row(row or {})
        schema.table_of([commit.row])  # a row that cannot be listed must not be committed
        if self._lease is None or self.commit is not None:
            return self._agreeing(commit)
        self._lease.check()
        # The record must never outlive what it names: a power cut after the commit finds all of it.
        self._backend.flush(map(commit.path, commit.files))
        if not self._backend.create(layout.commit_path(self.kind, self.key), commit.to_json()):
            return self._agreeing(commit)
        self.commit = commit
        if not defer_row:
            self._add_rows([commit.row])
        return commit

    def _put(self, name: str, content: Content, storage_dtype: str | None) -> FileInfo:
        path = layout.attempt_path(self.kind, self.key, self.attempt, name)
        if name in self._files:
            raise DifferentBytesError(f"{name!r} was put twice in one attempt; files of an attempt never change")
        if isinstance(content, Path):
            info = FileInfo(
                bytes=content.stat().st_size, sha256=tensors.file_sha256(content), storage_dtype=storage_dtype
            )
        else:
            info = FileInfo(bytes=len(content), sha256=tensors.bytes_sha256(content), storage_dtype=storage_dtype)
        # A snapshot may be all that is left of an attempt, and is gone on from; the rest counts only once committed.
        self._backend.put(path, content, flush=layout.step_of(name) is not None)
        self._files[name] = info
        return info

    def _look_for_commit(self) -> bool:
        """Tell whether there is a commit that can be counted on."""
        found = judged(self._backend, self.kind, self.key, digests=self._digests)
        self.commit = found.commit if found.wrong is None else None
        return self.commit is not None

    def _is_ours_to_make(self, held: lease.Lease) -> bool:
        try:
            ours = self._set_aside()
        except BaseException:
            held.end(committed=False)  # or it would beat on for as long as this process lives
            raise
        if not ours:
            held.end(committed=True)
        return ours

    def _set_aside(self) -> bool:
        """Take a commit that cannot be counted on out of the way, as we alone may now; tell whether the key is ours to make.

        The files stay, for `gc`. The record goes into the folder of the attempt that it names; of one that cannot be
        read, into every attempt there is: what lies beside a record is never gone on from.
        """
        found = judged(self._backend, self.kind, self.key, digests=self._digests)
        if found.wrong is None or found.content is None:
            self.commit = found.commit
            return found.commit is None
        log.info("%s/%s is damaged and is made again: %s", self.kind, self.key[:12], found.wrong)
        folder = layout.object_dir(self.kind, self.key)
        inside = [path.removeprefix(f"{folder}/").split("/") for path in self._backend.find(folder)]
        attempts = {path[0] for path in inside if len(path) > 1} if found.commit is None else {found.commit.attempt}
        # The row goes first, so that at no time a row names an object that is not there.
        self._add_rows([{"kind": self.kind, "key": self.key, "status": schema.REMOVED}])
        for attempt in attempts:
            self._backend.put(layout.attempt_path(self.kind, self.key, attempt, layout.COMMIT), found.content)
        self._backend.remove(layout.commit_path(self.kind, self.key))
        return True

    def _is_whole(self, path: str, size: int) -> bool:
        try:
            head = self._backend.read_head(path, HEAD)
            needed = tensors.header_end(head, path)
            if needed > len(head):
                head = self._backend.read_head(path, needed)
            tensors.check_whole(head, size, path)
        except (DamagedError, FileNotFoundError):
            return False
        return True

    def _refuse_lowered(self, recipe: Mapping[str, Any]) -> None:
        for name, info in self._files.items():
            if info.storage_dtype is not None and recipe.get("storage_dtype") != info.storage_dtype:
                raise ExactnessError(
                    f"{name!r} was stored as {info.storage_dtype} but the recipe promises exact bits; put "
                    f"storage_dtype={info.storage_dtype!r} into the recipe, or store it as produced"
                )

    def _agreeing(self, ours: Commit) -> Commit:
        """Compare with the commit that is there: the same recipe must have given the same bytes."""
        there = read_commit(self._backend, self.kind, self.key)
        if there is None:
            raise DamagedError(
                f"{self.kind}/{self.key[:12]} lost its commit while we published; run `headstart store verify`"
            )
        self.commit = there
        differing = sorted(
            name for name, info in ours.files.items() if name in there.files and there.files[name].sha256 != info.sha256
        )
        if differing:
            raise DifferentBytesError(
                f"{self.kind}/{self.key[:12]} is committed with other bytes in {differing}; the recipe does not decide the "
                f"result, look for what else does (ours are kept for comparison in attempt {ours.attempt})"
            )
        return there
