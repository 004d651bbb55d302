"""Bytes on some backend: whole puts, creates with one winner, fresh reads.

Everything above speaks to this one small class; each backend fills it in its own file. The promises:

- `put` is whole or absent: nobody ever reads half of it. It is meant for names that nobody else writes.
- `create` has at most one winner per path, also when replies get lost. It is meant for small records.
- Listings and reads are fresh: nothing is answered from a cache that another process cannot see through.
"""

import abc
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

Content = bytes | bytearray | memoryview | Path
"""What can be put: bytes, or a local file by its path."""

FaultPoint = Callable[[str, str], None]
"""Called at every edge of every write with (stage, path); production passes nothing, tests break off here."""

PARALLEL: Final = 16
CHUNK: Final = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a listing knows of one file: its size and when it was written, by the clock of the backend (seconds)."""

    bytes: int
    modified: float


class Files(abc.ABC):
    """One folder on one backend. Paths are relative to it."""

    def __init__(self, url: str, fault_point: FaultPoint | None = None) -> None:
        self.url = url
        self.exclusive = True
        """Whether `create` is to be trusted; opening a store finds out. Without it only one process may write."""
        self._point: FaultPoint = fault_point or (lambda _stage, _path: None)

    @abc.abstractmethod
    def put(self, path: str, content: Content, *, flush: bool = True) -> None:
        """Write a whole file; an older one of this name is replaced at once.

        Without `flush` it is there for everybody, and lost in a power cut until `flush` has named it.
        """

    @abc.abstractmethod
    def create(self, path: str, content: bytes, *, flush: bool = True) -> bool:
        """Write a small file if there is none of this name; tell whether we are the one who did."""

    @abc.abstractmethod
    def flush(self, paths: Iterable[str]) -> None:
        """Have files survive a power cut, their names too."""

    @abc.abstractmethod
    def refuses_second_create(self, path: str, content: bytes) -> bool:
        """Try to create a file that is there, with its own content, and tell whether the backend refused."""

    @abc.abstractmethod
    def read(self, path: str) -> bytes:
        """Read a whole file; FileNotFoundError if there is none."""

    def content_or_none(self, path: str) -> bytes | None:
        """Read a whole file, None if there is none."""
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    @abc.abstractmethod
    def read_head(self, path: str, count: int) -> bytes:
        """Read the beginning of a file."""

    @abc.abstractmethod
    def find(self, folder: str) -> dict[str, Entry]:
        """List all files under a folder at any depth, sorted by path; nothing there is an empty answer."""

    @abc.abstractmethod
    def names(self, folder: str) -> list[str]:
        """List the names directly in a folder, files and folders."""

    @abc.abstractmethod
    def remove(self, path: str) -> None:
        """Remove one file; one that is gone already is fine."""

    @abc.abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Copy a file that never changes, as cheaply as the backend can."""

    @abc.abstractmethod
    def size(self, path: str) -> int | None:
        """Give the size of a file, None if there is none."""

    @abc.abstractmethod
    def now(self) -> float:
        """Tell the time by the clock that dates what is listed, whatever this machine's says; needs to write."""

    def local_path(self, path: str) -> Path | None:
        """Give the place on this machine's disk, None where there is no such place."""
        del path
        return None

    @abc.abstractmethod
    def arrow_source(self, path: str) -> tuple[str, Any]:
        """Give a file's path and the pyarrow file system that reads parts of it."""

    def free_bytes(self) -> int | None:
        """Tell how much room is left, None where nobody can know."""
        return None

    def uri(self, path: str) -> str:
        """Give the full address of a file, for people and for other programs."""
        return f"{self.url}/{path}"

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Read many small files at once; a file that is not there gives None."""
        paths = list(paths)
        with ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(paths, pool.map(self.content_or_none, paths), strict=True))

    def remove_many(self, paths: Iterable[str]) -> None:
        """Remove files, in no particular order."""
        for path in paths:
            self.remove(path)

    def sha256(self, path: str) -> str:
        """Give the digest of a file's content."""
        return hashlib.sha256(self.read(path)).hexdigest()
