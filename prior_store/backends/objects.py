"""Object stores through fsspec: plain whole puts for data, one conditional put for small records, nothing cached.

Measured traps that shaped this file: conditional multi-part uploads let several writers win (so data goes to unique
names without a condition); a reply that gets lost makes the client's own retry look like somebody else's win (so a
refused create is read back); listing caches hide what other processes made (so they are off).
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from prior_store import layout
from prior_store.backends.files import CHUNK, PARALLEL, Content, Entry, FaultPoint, Files
from prior_store.backends.retries import again
from prior_store.errors import StoreAddressError

T = TypeVar("T")

S3_DEFAULTS: Final[Mapping[str, object]] = {
    "use_listings_cache": False,
    "config_kwargs": {
        "connect_timeout": 10,
        "read_timeout": 30,
        "retries": {"max_attempts": 2, "mode": "standard"},
        "max_pool_connections": 4 * PARALLEL,
    },
}
"""Fresh listings, and waits that end: each layer below retries too, so the defaults multiply to many minutes."""


class ObjectFiles(Files):
    """Objects below one prefix, through any fsspec file system."""

    def __init__(
        self,
        url: str,
        options: Mapping[str, object] | None = None,
        fault_point: FaultPoint | None = None,
        filesystem: Any = None,
    ) -> None:
        self.fs, self.prefix = (filesystem, url.split("://", 1)[1].strip("/")) if filesystem else _connect(url, options)
        super().__init__(url.rstrip("/"), fault_point)
        self.pause = time.sleep

    def put(self, path: str, content: Content, *, flush: bool = True) -> None:
        """Put the object; backends show it whole or not at all, and trying again is harmless."""
        del flush  # what these acknowledge is kept
        self._point("put", path)
        if isinstance(content, Path):
            source = str(content)
            self._again(lambda: self.fs.put_file(source, self._full(path)))
        else:
            data = bytes(content)
            self._again(lambda: self._pipe(path, data))
        self._point("done", path)

    def create(self, path: str, content: bytes, *, flush: bool = True) -> bool:
        """Put on condition that there is none; on every doubt read back what is there."""
        del flush
        self._point("create", path)
        # After any failure but a plain refusal the object may be there all the same, so each try begins by looking.
        in_doubt = False

        def attempt() -> bool:
            nonlocal in_doubt
            if in_doubt and (found := self.content_or_none(path)) is not None:
                return found == content
            in_doubt = True
            if not self.exclusive and self.content_or_none(path) is not None:
                return False  # single-writer mode: nobody else is there, and the backend itself would overwrite
            if self._pipe_new(path, content):
                return True
            # Refused. Our own earlier request may have been the winner, its reply lost: then the bytes are ours.
            return self.content_or_none(path) == content

        won = self._again(attempt)
        self._point("done", path)
        return won

    def flush(self, paths: Iterable[str]) -> None:
        """Nothing is left to do: an object store acknowledges what it keeps."""
        del paths

    def refuses_second_create(self, path: str, content: bytes) -> bool:
        """Ask with the bytes that are there, so that a backend which ignores the condition changes nothing."""
        return not self._again(lambda: self._pipe_new(path, content))

    def read(self, path: str) -> bytes:
        """Get the object; a large one in parallel ranges."""
        size = self.size(path) if getattr(self.fs, "async_impl", False) and _may_be_large(path) else None
        if size is not None and size > 2 * CHUNK:
            return self._read_ranges(path, size)
        return bytes(self._again(lambda: self.fs.cat_file(self._full(path))))

    def read_head(self, path: str, count: int) -> bytes:
        """Get the first range of an object."""
        return bytes(self._again(lambda: self.fs.cat_file(self._full(path), start=0, end=count)))

    def read_many(self, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Get many small objects with many requests in flight; what failed is asked again one by one."""
        paths = list(paths)
        if not getattr(self.fs, "async_impl", False) or len(paths) < 2:
            return super().read_many(paths)
        answers = self.fs.cat([self._full(path) for path in paths], on_error="return", batch_size=2 * PARALLEL)
        contents: dict[str, bytes | None] = {}
        for path in paths:
            answer = answers.get(self._full(path))
            contents[path] = bytes(answer) if isinstance(answer, bytes) else self.content_or_none(path)
        return contents

    def find(self, folder: str) -> dict[str, Entry]:
        """List the prefix, page after page."""
        full = self._full(folder)
        try:
            listed = self._again(lambda: self.fs.find(full, detail=True))
        except FileNotFoundError:
            return {}
        cut = len(self.prefix.strip("/")) + 1
        found = {
            path.strip("/")[cut:]: Entry(bytes=int(info.get("size") or 0), modified=_modified(info))
            for path, info in listed.items()
            if info.get("type") != "directory" and not path.endswith("/")
        }
        return dict(sorted(found.items()))

    def names(self, folder: str) -> list[str]:
        """List one level of the prefix."""
        try:
            listed = self._again(lambda: self.fs.ls(self._full(folder), detail=False))
        except FileNotFoundError:
            return []
        # Some servers list an emptied folder as an entry of itself.
        found = {str(path).strip("/") for path in listed} - {self._full(folder)}
        return sorted(path.rsplit("/", 1)[-1] for path in found)

    def remove(self, path: str) -> None:
        """Delete one object."""
        self._point("remove", path)

        def attempt() -> None:
            try:
                self.fs.rm_file(self._full(path))
            except FileNotFoundError:
                return

        self._again(attempt)
        self._point("removed", path)

    def remove_many(self, paths: Iterable[str]) -> None:
        """Delete with many requests in flight."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self.remove, paths))

    def copy(self, source: str, target: str) -> None:
        """Let the backend copy; the bytes do not travel."""
        self._point("put", target)
        self._again(lambda: self.fs.cp_file(self._full(source), self._full(target)))
        self._point("done", target)

    def size(self, path: str) -> int | None:
        """Ask for the head of the object."""
        try:
            return int(self._again(lambda: self.fs.info(self._full(path)))["size"])
        except FileNotFoundError:
            return None

    def now(self) -> float:
        """Put a small object and look when that was."""
        path = layout.probe_path()
        try:
            self.put(path, b"{}")
            return _modified(self._again(lambda: self.fs.info(self._full(path))))
        finally:
            self.remove(path)

    def arrow_source(self, path: str) -> tuple[str, Any]:
        """Let pyarrow read ranges through the same connection."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return self._full(path), PyFileSystem(FSSpecHandler(self.fs))

    def _full(self, path: str) -> str:
        return f"{self.prefix}/{path}".rstrip("/")

    def _pipe(self, path: str, data: bytes) -> None:
        self.fs.pipe_file(self._full(path), data)

    def _pipe_new(self, path: str, data: bytes) -> bool:
        """Send one conditional put; False when it was refused because the object is there."""
        try:
            self.fs.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if _is_refusal(error):
                return False
            raise
        return True

    def _read_ranges(self, path: str, size: int) -> bytes:
        full = self._full(path)
        starts = range(0, size, CHUNK)
        ends = [min(start + CHUNK, size) for start in starts]
        parts = self._again(
            lambda: self.fs.cat_ranges([full] * len(ends), list(starts), ends, batch_size=PARALLEL, on_error="raise")
        )
        return b"".join(parts)

    def _again(self, attempt: Callable[[], T]) -> T:
        return again(attempt, self.url, self.pause)


def _connect(url: str, options: Mapping[str, object] | None) -> tuple[Any, str]:
    import fsspec

    scheme = url.split("://", 1)[0]
    given = dict(options or {})
    if scheme in ("s3", "s3a"):
        given = {**S3_DEFAULTS, **given}
    try:
        fs, path = fsspec.core.url_to_fs(url, **given)
    except ImportError as error:
        raise StoreAddressError(f"store URL {url!r} needs a package that is not installed: {error}") from error
    except ValueError as error:
        raise StoreAddressError(f"store URL {url!r} is not understood: {error}") from error
    if hasattr(fs, "retries"):
        fs.retries = 2  # ours come on top
    return fs, str(path).strip("/")


def _may_be_large(path: str) -> bool:
    """Spare the size request for records: only data files come in ranges."""
    return not path.endswith(".json")


def _modified(info: Mapping[str, Any]) -> float:
    for name in ("LastModified", "created", "mtime", "modified", "updated", "last_modified"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0


def _is_refusal(error: OSError) -> bool:
    """Tell "it is there already", which some servers say in a way that fsspec does not translate."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "PreconditionFailed")
