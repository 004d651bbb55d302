"""A folder on a disk: temporary file in the same folder, fsync, then rename or link.

fsspec's own local writes are not used: their exclusive modes show files while they are written or let two writers win,
and their transactions copy across devices.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from prior_store import layout
from prior_store.backends.files import Content, Entry, FaultPoint, Files
from prior_store.backends.staging import flush_name, make_folder, write_new
from prior_store.errors import NoSpaceError

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TRIES = 100


class LocalFiles(Files):
    """Files below one folder of this machine, or of a disk that many machines mount."""

    def __init__(self, url: str, fault_point: FaultPoint | None = None) -> None:
        text = unquote(url.split("://", 1)[1]) if "://" in url else url
        self.folder = Path(text).expanduser().absolute()
        super().__init__(self.folder.as_uri(), fault_point)

    def put(self, path: str, content: Content, *, flush: bool = True) -> None:
        """Write beside the target, flush to the disk, rename."""
        self._point("put", path)
        target = self.folder / path
        temporary = self._staged(target, content, flush=flush)
        try:
            self._point("staged", path)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if flush:
            flush_name(target.parent)
        self._point("done", path)

    def create(self, path: str, content: bytes, *, flush: bool = True) -> bool:
        """Write beside the target, flush, link: the link has one winner and is whole at once."""
        self._point("create", path)
        target = self.folder / path
        temporary = self._staged(target, content, flush=flush)
        try:
            self._point("staged", path)
            won = self._link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        if flush:
            flush_name(target.parent)
        self._point("done", path)
        return won

    def flush(self, paths: Iterable[str]) -> None:
        """Flush files, then the folders that name them, up to the root: each once, so that many files cost little more."""
        files = list(paths)
        folders = {path[: match.start()] for path in files for match in re.finditer("/", path)}
        with self._full_disk_told("what was written"):
            for path in (*files, *sorted(folders, key=len, reverse=True), ""):
                flush_name(self.folder / path)

    def refuses_second_create(self, path: str, content: bytes) -> bool:
        """Try it with a link of our own, since what counts is whether this disk has links at all."""
        target = self.folder / path
        temporary = self._staged(target, content, flush=False)
        try:
            os.link(temporary, target)
        except FileExistsError:
            return True
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        finally:
            temporary.unlink(missing_ok=True)
        return False

    def read(self, path: str) -> bytes:
        """Read a whole file."""
        return (self.folder / path).read_bytes()

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Read one after the other: a disk answers small reads sooner than threads start."""
        return {path: self.content_or_none(path) for path in paths}

    def read_head(self, path: str, count: int) -> bytes:
        """Read the beginning of a file."""
        with (self.folder / path).open("rb") as file:
            return file.read(count)

    def find(self, folder: str) -> dict[str, Entry]:
        """Walk the folder; links, and what vanishes while we walk, are left out."""
        found: dict[str, Entry] = {}
        stack = [folder]
        while stack:
            here = stack.pop()
            try:
                with os.scandir(self.folder / here) as entries:
                    for entry in entries:
                        path = f"{here}/{entry.name}" if here else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            stack.append(path)
                            continue
                        if entry.is_symlink():
                            continue  # what it leads to is not kept here
                        try:
                            status = entry.stat()
                        except FileNotFoundError:
                            continue
                        found[path] = Entry(bytes=status.st_size, modified=status.st_mtime)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return dict(sorted(found.items()))

    def names(self, folder: str) -> list[str]:
        """List one folder."""
        try:
            return sorted(path.name for path in (self.folder / folder).iterdir())
        except FileNotFoundError:
            return []

    def remove(self, path: str) -> None:
        """Unlink, and drop the folders that this leaves empty."""
        self._point("remove", path)
        target = self.folder / path
        target.unlink(missing_ok=True)
        self._point("removed", path)
        for parent in list(target.relative_to(self.folder).parents)[:-1]:
            try:
                (self.folder / parent).rmdir()
            except OSError:  # not empty, or gone already: both are what we want
                break

    def copy(self, source: str, target: str) -> None:
        """Link instead of copying: files in a store never change."""
        self._point("put", target)
        place = self.folder / target
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.folder / source, place)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.put(target, self.folder / source)
            return
        flush_name(place.parent)
        self._point("done", target)

    def size(self, path: str) -> int | None:
        """Ask the disk; a file behind a link in its folder or in place of it is not kept here."""
        place = self.folder / path
        if place.is_symlink() or (place.parent != self.folder and place.parent.is_symlink()):
            return None
        try:
            return place.stat().st_size
        except FileNotFoundError:
            return None

    def now(self) -> float:
        """Have the disk date the root anew, which takes no room, and read that."""
        os.utime(self.folder)
        return self.folder.stat().st_mtime

    def local_path(self, path: str) -> Path | None:
        """Give the file itself."""
        return self.folder / path

    def arrow_source(self, path: str) -> tuple[str, Any]:
        """Let pyarrow read the disk itself."""
        from pyarrow.fs import LocalFileSystem

        return str(self.folder / path), LocalFileSystem()

    def free_bytes(self) -> int | None:
        """Ask the disk that holds the nearest folder which exists."""
        here = self.folder
        while not here.exists():
            here = here.parent
        return shutil.disk_usage(here).free

    def sha256(self, path: str) -> str:
        """Digest without holding the file in memory."""
        with (self.folder / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _staged(self, target: Path, content: Content, *, flush: bool) -> Path:
        """Write the content under a temporary name and flush it, so that the rename shows only whole bytes."""
        if isinstance(content, Path) and not content.is_file():
            raise FileNotFoundError(errno.ENOENT, "the file to put into the store is not there", str(content))
        temporary = target.with_name(layout.temporary_name(target.name))
        with self._full_disk_told(target.name):
            for _ in range(_TRIES):
                try:
                    return write_new(temporary, content, flush=flush)
                except FileNotFoundError:
                    # No folder yet, or a cleaner took the empty one away between our mkdir and our open.
                    make_folder(target.parent, flush=flush)
            return write_new(temporary, content, flush=flush)

    @contextlib.contextmanager
    def _full_disk_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise NoSpaceError(
                f"no space left under {self.url} for {what}; free some with `headstart store gc`"
            ) from error

    def _link(self, temporary: Path, target: Path) -> bool:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Single-writer mode, which the probe found out and said: nobody else is there to win.
            if target.exists():
                return False
            temporary.replace(target)
        return True
