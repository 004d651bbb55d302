"""Folders for files on their way into the store: gone afterwards, and after a kill, swept up by the next run."""

from __future__ import annotations

import fcntl
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("headstart")
PREFIX = "headstart-"
# Whoever holds the lock on this file uses the folder; the system lets go of it when a process dies.
OWNED = "owned"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of our own; gone afterwards, whatever happens."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with (folder / OWNED).open("w") as owned:
            fcntl.flock(owned, fcntl.LOCK_EX)
            if not (folder / OWNED).exists():
                continue  # swept up between its making and the lock
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


def sweep_scratch() -> None:
    """Remove the folders whose owners are dead."""
    for place in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{OWNED}"):
        try:
            with place.open("r+") as owned:
                fcntl.flock(owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place.parent, ignore_errors=True)
        except OSError as error:  # in use, gone, or somebody else's
            log.debug("%s is left as it is: %s", place.parent, error)
