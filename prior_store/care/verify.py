"""Prove the promises: every row has its whole object, every object its row, every byte is what was committed."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from prior_store import layout
from prior_store.backends.files import PARALLEL, Entry
from prior_store.errors import DamagedError
from prior_store.manifest import schema
from prior_store.objects.commit import Commit

if TYPE_CHECKING:
    from prior_store.store import Store

Progress = Callable[[int, int], None]
"""Called with (done, of all) while files are checked."""

TORN_COMMIT: Final = "torn commit"
MISSING_FILE: Final = "missing file"
WRONG_BYTES: Final = "wrong bytes"
ROW_WITHOUT_OBJECT: Final = "row without object"
OBJECT_WITHOUT_ROW: Final = "object without row"
ROW_DIFFERS: Final = "row differs from object"
DAMAGED_MANIFEST: Final = "damaged manifest file"
DAMAGED_EMBEDDING: Final = "damaged embedding"

_CHUNK: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One broken promise, and where."""

    what: str
    path: str
    text: str
    kind: str | None = None
    key: str | None = None


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


@dataclass(slots=True, kw_only=True)
class Inventory:
    """Everything that lies under the keys of one kind, from one listing."""

    commits: dict[str, Commit] = field(default_factory=dict)
    broken: list[Problem] = field(default_factory=list)
    entries: dict[str, dict[str, Entry]] = field(default_factory=dict)
    """key -> path -> what the listing says."""
    foreign: list[str] = field(default_factory=list)


def verify(store: "Store", *, quick: bool = False, progress: Progress | None = None) -> Report:
    """Check everything; `quick` compares sizes and leaves the digests out. Safe beside writers and cleaners."""
    inventories = {kind: take_inventory(store, kind) for kind in layout.KINDS}
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


def take_inventory(store: "Store", kind: str) -> Inventory:
    """List all objects of a kind and read their commit records."""
    inventory = Inventory()
    for path, entry in store.files.find(kind).items():
        key = _key_of(path)
        if key is None:
            inventory.foreign.append(path)
        else:
            inventory.entries.setdefault(key, {})[path] = entry
    committed = [key for key, paths in inventory.entries.items() if layout.commit_path(kind, key) in paths]
    for chunk in _chunks(committed):
        contents = store.files.read_many(layout.commit_path(kind, key) for key in chunk)
        for key in chunk:
            path = layout.commit_path(kind, key)
            content = contents[path]
            if content is None:
                continue  # cleaned up meanwhile
            try:
                inventory.commits[key] = Commit.from_json(content, kind, key)
            except DamagedError as error:
                inventory.broken.append(Problem(what=TORN_COMMIT, kind=kind, key=key, path=path, text=str(error)))
    return inventory


def _files_checked(
    store: "Store", commits: list[Commit], inventories: dict[str, Inventory], *, quick: bool, progress: Progress | None
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


def _file_checked(store: "Store", commit: Commit, name: str, entry: Entry | None, *, quick: bool) -> Problem | None:
    path, info = commit.path(name), commit.files[name]
    size = entry.bytes if entry is not None else store.files.size(path)
    what, text = "", ""
    if size is None:
        what, text = MISSING_FILE, f"{path} was committed and is gone"
    elif size != info.bytes:
        what, text = WRONG_BYTES, f"{path} has {size} bytes where {info.bytes} were committed"
    elif not quick:
        try:
            if store.files.sha256(path) != info.sha256:
                what, text = WRONG_BYTES, f"{path} does not have the committed sha256"
        except FileNotFoundError:
            what, text = MISSING_FILE, f"{path} was committed and is gone"
    return Problem(what=what, kind=commit.kind, key=commit.key, path=path, text=text) if what else None


def _rows(store: "Store") -> tuple[dict[str, dict[str, Any]], list[Problem]]:
    """Read the rows of all manifest files that can be read."""
    from prior_store.manifest.table import latest, rows_of

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
    store: "Store", rows: dict[str, dict[str, Any]], inventories: dict[str, Inventory]
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


def _embeddings_checked(store: "Store", paths: Iterable[str]) -> Iterator[Problem]:
    for path in paths:
        key = path.rsplit("/", 1)[-1].removesuffix(".safetensors")
        if layout.is_temporary(path.rsplit("/", 1)[-1]):
            continue
        try:
            store.get_embedding(key)
        except DamagedError as error:
            yield Problem(what=DAMAGED_EMBEDDING, key=key, path=path, text=str(error))


def _key_of(path: str) -> str | None:
    parts = path.split("/")
    if len(parts) not in (4, 5) or parts[1] != parts[2][:2]:
        return None
    try:
        return layout.checked_key(parts[2])
    except KeyError:
        return None


def _chunks(items: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
