"""Whether an object is what its commit record says, at the price of one listing; digests on request."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prior_store import layout
from prior_store.backends.files import PARALLEL, Entry, Files
from prior_store.errors import DamagedError
from prior_store.objects.commit import Commit

Object = tuple[str, str]
"""Kind and key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What is wrong with one committed file."""

    path: str
    text: str
    missing: bool = False


def damage_of_file(files: Files, commit: Commit, name: str, entry: Entry | None, *, digests: bool) -> Damage | None:
    """Compare one file with the record; `entry` is what a listing says of it, if it does."""
    path, info = commit.path(name), commit.files[name]
    gone = Damage(path=path, text=f"{path} was committed and is gone", missing=True)
    size = entry.bytes if entry is not None else files.size(path)
    if size is None:
        return gone
    if size != info.bytes:
        return Damage(path=path, text=f"{path} has {size} bytes where {info.bytes} were committed")
    try:
        if digests and files.sha256(path) != info.sha256:
            return Damage(path=path, text=f"{path} does not have the committed sha256")
    except FileNotFoundError:
        return gone
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What lies under a key: the bytes of its commit record, the record if it can be read, and what is wrong with it all."""

    content: bytes | None = None
    commit: Commit | None = None
    wrong: str | None = None


def judged(files: Files, kind: str, key: str, *, digests: bool) -> Judged:
    """Look whether a key has a commit that can be counted on."""
    before = None
    while (content := files.content_or_none(layout.commit_path(kind, key))) is not None:
        found = _judged(files, kind, key, content, digests=digests)
        # A cleaner may just have put a lighter record in place, and taken away what it no longer names.
        if found.wrong is None or content == before:
            return found
        before = content
    return Judged()


def damaged(files: Files, objects: Iterable[Object], *, digests: bool) -> Mapping[Object, str]:
    """Name those of many objects that are not there or not whole, and what is wrong with them."""

    def look(one: Object) -> str | None:
        found = judged(files, *one, digests=digests)
        return f"{layout.commit_path(*one)} is gone" if found.content is None else found.wrong

    objects = list(objects)
    # A disk answers small questions sooner than threads ask them.
    at_once = 1 if not digests and files.local_path("") is not None else PARALLEL
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(look, objects))
    return {one: text for one, text in zip(objects, found, strict=True) if text is not None}


def _judged(files: Files, kind: str, key: str, content: bytes, *, digests: bool) -> Judged:
    try:
        commit = Commit.from_json(content, kind, key)
    except DamagedError as error:
        return Judged(content=content, wrong=str(error))
    listed = files.find(layout.object_dir(kind, key))
    for name in commit.files:
        found = damage_of_file(files, commit, name, listed.get(commit.path(name)), digests=digests)
        if found is not None:
            return Judged(content=content, commit=commit, wrong=found.text)
    return Judged(content=content, commit=commit)
