"""Make the promises hold again: rebuild rows from the commit records, put what is torn into quarantine, delete nothing."""

from collections.abc import Iterable
from dataclasses import dataclass

from prior_store import layout
from prior_store.care.problems import (
    DAMAGED_EMBEDDING,
    DAMAGED_MANIFEST,
    MISSING_FILE,
    OBJECT_WITHOUT_ROW,
    ROW_DIFFERS,
    ROW_WITHOUT_OBJECT,
    TORN_COMMIT,
    WRONG_BYTES,
    Problem,
)
from prior_store.care.verify import Progress, Report, verify
from prior_store.manifest import schema
from prior_store.objects.holdings import Holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was found, what was done about it, and what a second look found."""

    before: Report
    after: Report
    actions: tuple[str, ...]


def repair(store: Holdings, *, quick: bool = False, progress: Progress | None = None) -> Repair:
    """Verify, mend, verify again."""
    store.require_writable()
    before = report = verify(store, quick=quick, progress=progress)
    room = f"{layout.QUARANTINE}/{schema.utc_now():%Y%m%dT%H%M%S%f}"
    actions: list[str] = []
    # Manifest files first: the rows that go with a damaged one show up as objects without rows in a second look.
    damaged = [problem for problem in report.problems if problem.what == DAMAGED_MANIFEST]
    if damaged:
        actions += _set_aside(store, room, [problem.path for problem in damaged])
        report = verify(store, quick=True)
        report = Report(
            objects=report.objects, files=report.files, bytes=report.bytes, rows=report.rows,
            embeddings=report.embeddings, foreign=report.foreign,
            problems=(*before.problems, *(new for new in report.problems if new not in before.problems)),
        )  # fmt: skip
    actions += _torn_objects(store, room, report.problems)
    lost = {(p.kind, p.key) for p in report.problems if p.what == ROW_WITHOUT_OBJECT}
    actions += _rows_removed(store, [(str(kind), str(key)) for kind, key in sorted(lost)])
    actions += _rows_rebuilt(store, [p for p in report.problems if p.what in (OBJECT_WITHOUT_ROW, ROW_DIFFERS)])
    actions += _set_aside(store, room, [p.path for p in report.problems if p.what == DAMAGED_EMBEDDING])
    after = verify(store, quick=quick) if actions else before
    return Repair(before=before, after=after, actions=tuple(actions))


def _torn_objects(store: Holdings, room: str, problems: Iterable[Problem]) -> list[str]:
    torn = sorted({(str(p.kind), str(p.key)) for p in problems if p.what in (TORN_COMMIT, MISSING_FILE, WRONG_BYTES)})
    # The row goes first, so that at no time a row names an object that is not there.
    actions = _rows_removed(store, torn)
    for kind, key in torn:
        folder = layout.object_dir(kind, key)
        commit = layout.commit_path(kind, key)
        others = [path for path in store.files.find(folder) if path != commit]
        _set_aside(store, room, [commit, *others])
        actions.append(f"put {kind}/{key[:12]} into {room}; the next batch that needs it makes it again")
    return actions


def _rows_removed(store: Holdings, objects: list[tuple[str, str]]) -> list[str]:
    listed = store.rows_by_key([key for _, key in objects], ["status"])
    rows = [{"kind": kind, "key": key, "status": schema.REMOVED} for kind, key in objects if key in listed]
    store.add_rows(rows)
    return [f"took the row of {row['kind']}/{row['key'][:12]} out of the manifest" for row in rows]


def _rows_rebuilt(store: Holdings, problems: list[Problem]) -> list[str]:
    commits = [store.commit_of(str(problem.kind), str(problem.key)) for problem in problems]
    there = [commit for commit in commits if commit is not None]
    # A record of a newer release may hold columns that this one does not know.
    store.add_rows({name: value for name, value in commit.row.items() if name in schema.NAMES} for commit in there)
    return [f"listed {commit.kind}/{commit.key[:12]} in the manifest again" for commit in there]


def _set_aside(store: Holdings, room: str, paths: list[str]) -> list[str]:
    for path in paths:
        store.files.copy(path, f"{room}/{path}")
        store.files.remove(path)
    return [f"put {path} into {room}" for path in paths]
