"""Prove the promises: every row has its whole object, every object its row, every byte is what was committed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prior_store import layout
from prior_store.backends.files import PARALLEL, Entry
from prior_store.care.inventory import Inventory, take_inventory
from prior_store.care.problems import (
    DAMAGED_EMBEDDING,
    DAMAGED_MANIFEST,
    MISSING_FILE,
    OBJECT_WITHOUT_ROW,
    ROW_DIFFERS,
    ROW_WITHOUT_OBJECT,
    WRONG_BYTES,
    Problem,
)
from prior_store.errors import DamagedError
from prior_store.manifest import schema
from prior_store.manifest.ranking import latest
from prior_store.manifest.schema import rows_of
from prior_store.objects.commit import Commit
from prior_store.objects.damage import damage_of_file
from prior_store.objects.holdings import Holdings

Progress = Callable[[int, int], None]
"""Called with (done, of all) while files are checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification saw."""

    objects: int
    files: int
    bytes: int
    rows: int
    embeddings: int
    problems: tuple[Problem, ...]
    foreign: tuple[str, ...]
    """Files that are none of ours; they are neither touched nor a problem."""

    @property
    def ok(self) -> bool:
        """Tell whether all promises hold."""
        return not self.problems

    @property
    def exit_code(self) -> int:
        """Give what a command should exit with."""
        return 0 if self.ok else 1


def verify(store: Holdings, *, quick: bool = False, progress: Progress | None = None) -> Report:
    """Check everything; `quick` compares sizes and leaves the digests out. Safe beside writers and cleaners."""
    inventories = {kind: take_inventory(store.files, kind) for kind in layout.KINDS}
    problems = [problem for inventory in inventories.values() for problem in inventory.broken]
    commits = [commit for inventory in inventories.values() for commit in inventory.commits.values()]
    problems += _files_checked(store, commits, inventories, quick=quick, progress=progress)
    rows, manifest_problems = _rows(store)
    problems += manifest_problems
    problems += _rows_checked(store, rows, inventories)
    embeddings = store.files.find(layout.EMBEDDINGS)
    if not quick:
        problems += _embeddings_checked(store, embeddings)
    return Report(
        objects=len(commits),
        files=sum(len(commit.files) for commit in commits),
        bytes=sum(commit.total_bytes for commit in commits),
        rows=len(rows),
        embeddings=len(embeddings),
        problems=tuple(problems),
        foreign=tuple(path for inventory in inventories.values() for path in inventory.foreign),
    )


def _files_checked(
    store: Holdings, commits: list[Commit], inventories: dict[str, Inventory], *, quick: bool, progress: Progress | None
) -> list[Problem]:
    total = sum(len(commit.files) for commit in commits)
    problems, done = [], 0
    work = [(commit, name) for commit in commits for name in commit.files]

    def check(item: tuple[Commit, str]) -> Problem | None:
        commit, name = item
        entry = inventories[commit.kind].entries[commit.key].get(commit.path(name))
        return _file_checked(store, commit, name, entry, quick=quick)

    with ThreadPoolExecutor(1 if quick else PARALLEL) as pool:
        for found in pool.map(check, work):
            done += 1
            if found is not None and store.commit_of(str(found.kind), str(found.key)) is not None:
                problems.append(found)
            if progress is not None:
                progress(done, total)
    return problems


def _file_checked(store: Holdings, commit: Commit, name: str, entry: Entry | None, *, quick: bool) -> Problem | None:
    found = damage_of_file(store.files, commit, name, entry, digests=not quick)
    if found is None:
        return None
    what = MISSING_FILE if found.missing else WRONG_BYTES
    return Problem(what=what, kind=commit.kind, key=commit.key, path=found.path, text=found.text)


def _rows(store: Holdings) -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Read the rows of all manifest files that can be read."""
    manifest = store.manifest_files
    problems: list[Problem] = []
    paths = [path for room in (layout.LOG, layout.BASE) for path in store.files.find(room) if path.endswith(".parquet")]
    found = []
    for path in paths:
        try:
            found += manifest.tables([path])
        except FileNotFoundError:
            continue  # compacted meanwhile
        except DamagedError as error:
            problems.append(Problem(what=DAMAGED_MANIFEST, path=path, text=str(error)))
    table = latest(pa.concat_tables([schema.SCHEMA.empty_table(), *found]))
    return {row["key"]: row for row in rows_of(table.select(["key", "kind", "status", "sha256"]))}, problems


def _rows_checked(
    store: Holdings, rows: dict[str, dict[str, Any]], inventories: dict[str, Inventory]
) -> Iterator[Problem]:
    torn = {problem.key for inventory in inventories.values() for problem in inventory.broken}
    commits = {key: commit for inventory in inventories.values() for key, commit in inventory.commits.items()}
    done = {key: row for key, row in rows.items() if row["status"] == schema.DONE}
    suspects = [(row["kind"], key) for key, row in done.items() if key not in commits and key not in torn]
    suspects += [
        (commit.kind, key)
        for key, commit in commits.items()
        if key not in done or done[key]["sha256"] not in (None, commit.sha256)
    ]
    if not suspects:
        return
    # Others go on working while we look: what seems wrong is looked at once more, rows and record both fresh.
    rows, _ = _rows(store)
    for kind, key in suspects:
        path = layout.commit_path(kind, key)
        listed = rows.get(key, {"status": None})
        try:
            commit = store.commit_of(kind, key)
        except DamagedError:
            continue
        if commit is None and listed["status"] == schema.DONE:
            text = f"the manifest lists {kind}/{key[:12]} as done and it is not committed"
            yield Problem(what=ROW_WITHOUT_OBJECT, kind=kind, key=key, path=path, text=text)
        elif commit is not None and listed["status"] != schema.DONE:
            text = f"{kind}/{key[:12]} is committed and not in the manifest (a running batch may be about to list it)"
            yield Problem(what=OBJECT_WITHOUT_ROW, kind=kind, key=key, path=path, text=text)
        elif commit is not None and listed["sha256"] not in (None, commit.sha256):
            text = f"the row of {kind}/{key[:12]} does not say what its commit record says"
            yield Problem(what=ROW_DIFFERS, kind=kind, key=key, path=path, text=text)


def _embeddings_checked(store: Holdings, paths: Iterable[str]) -> Iterator[Problem]:
    for path in paths:
        key = path.rsplit("/", 1)[-1].removesuffix(".safetensors")
        if layout.is_temporary(path.rsplit("/", 1)[-1]):
            continue
        try:
            store.get_embedding(key)
        except DamagedError as error:
            yield Problem(what=DAMAGED_EMBEDDING, key=key, path=path, text=str(error))
