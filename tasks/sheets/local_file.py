"""Opens a file of this machine as what was checked: the very file, whatever else its name could mean or lead to by then."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

_LOCAL = ("file", "local")


def local_path(location: str) -> str | None:
    """The path of a location on this machine, None for one elsewhere."""
    protocol, separator, rest = location.partition("://")
    if not separator:
        return location
    return rest if protocol in _LOCAL else None


def open_checked(path: str) -> io.BufferedReader:
    """Open a path without links, as `os.path.realpath` gives it; raises OSError if by now it leads elsewhere."""
    # Without O_NONBLOCK a pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a plain file")
        if _opened(descriptor, path) != path:
            raise OSError("it leads elsewhere than a moment ago")
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _opened(descriptor: int, path: str) -> str:
    """Where the opened file really lies; systems without /proc are asked by name once more."""
    seen = Path(f"/proc/self/fd/{descriptor}")
    return str(seen.readlink()) if seen.is_symlink() else os.path.realpath(path)
