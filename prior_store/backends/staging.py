"""Writes on a local disk that survive a power cut: the bytes, and the names that lead to them."""

import os
import shutil
from pathlib import Path

from prior_store.backends.files import CHUNK, Content


def write_new(temporary: Path, content: Content, *, flush: bool) -> Path:
    """Write a file that is not there yet, and take it away again if that fails."""
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, CHUNK)
            else:
                file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def make_folder(folder: Path, *, flush: bool) -> None:
    """Make a folder and those above it."""
    new = [place for place in (folder, *folder.parents) if not place.exists()] if flush else []
    folder.mkdir(parents=True, exist_ok=True)
    for place in new:
        flush_name(place.parent)


def flush_name(place: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut; what a cleaner just took away needs nothing."""
    try:
        handle = os.open(place, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
