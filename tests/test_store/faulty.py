"""An object store in memory that fails on demand, in the ways that real ones were seen to fail."""

import threading

from fsspec.implementations.memory import MemoryFileSystem


class ServerError(OSError):
    """What s3fs raises for a 5xx: an OSError whose cause holds the reply."""

    def __init__(self, status=503, code="SlowDown"):
        super().__init__(121, code)
        self.__cause__ = Exception(code)
        self.__cause__.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


class PayloadError(Exception):
    """Stands for the HTTP client's own error of a body that ended too early, which is no OSError."""


PayloadError.__name__ = "ClientPayloadError"


class Faulty(MemoryFileSystem):
    """A memory file system with conditional puts, which does what `script` says before it does what it is asked.

    The script maps an operation (put, get, list, delete) to a list of faults, used up one by one:
    "before" fails before anything is done, "after" does it and then fails, "torn" keeps half and then fails,
    "stale" (for listings) answers as of the last listing. Each fault is (how, exception).
    """

    cachable = False  # codespell:ignore cachable
    protocol = "faulty"

    def __init__(self, script=None):
        super().__init__()
        self.store = {}  # of this instance, unlike that of its parent
        self.pseudo_dirs = [""]
        self.script = {name: list(faults) for name, faults in (script or {}).items()}
        self.used = []
        self._lock = threading.RLock()
        self._last_listing = {}

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        with self._lock:
            if mode == "create" and self.exists(path):
                raise FileExistsError(path)
            self._act("put", path, lambda part: super(Faulty, self).pipe_file(path, value[:part]), len(value))

    def cat_file(self, path, start=None, end=None, **kwargs):
        with self._lock:
            return self._act("get", path, lambda _: super(Faulty, self).cat_file(path, start, end), 0)

    def rm_file(self, path):
        with self._lock:
            self._act("delete", path, lambda _: super(Faulty, self)._rm(path), 0)

    def find(self, path, **kwargs):
        with self._lock:
            fault = self._next("list")
            if fault and fault[0] == "stale":
                return self._last_listing.get(path, {})
            found = super().find(path, **kwargs)
            self._last_listing[path] = found
            if fault:
                raise fault[1]
            return found

    def ls(self, path, detail=True, **kwargs):
        fault = self._next("names")
        if fault and fault[0] == "stale":
            return []
        return super().ls(path, detail, **kwargs)

    def _next(self, operation):
        faults = self.script.get(operation)
        if not faults:
            return None
        fault = faults.pop(0)
        if fault:
            self.used.append((operation, fault[0]))
        return fault

    def _act(self, operation, path, act, size):
        fault = self._next(operation)
        if fault is None:
            return act(size or None)
        how, error = fault
        if how == "after":
            act(size or None)
        elif how == "torn":
            act(size // 2)
        raise error
