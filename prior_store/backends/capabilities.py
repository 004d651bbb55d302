"""What a backend can really do, found out by trying."""

import errno
import json
import warnings
from dataclasses import dataclass

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import NoSpaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the backend proved when it was first to be written to."""

    writable: bool
    exclusive_create: bool

    @property
    def mode(self) -> str:
        """Say in words how the store may be used."""
        if not self.writable:
            return "read only"
        return "many writers" if self.exclusive_create else "single writer"


class SingleWriterWarning(UserWarning):
    """The backend ignores conditional writes: only one process may write at a time."""


def probe(files: Files, content: bytes) -> Capabilities:
    """Create the store's own record once more, with the same bytes: honest backends refuse, others change nothing."""
    try:
        exclusive = files.exclusive = files.refuses_second_create(layout.STORE, content)
    except NoSpaceError:
        # A full disk can still be freed, and whoever writes hears of it then. What it can do was tried when it was made.
        exclusive = files.exclusive = bool(json.loads(content).get("capabilities", {}).get("exclusive_create", True))
    except PermissionError:
        return Capabilities(writable=False, exclusive_create=False)
    except OSError as error:
        if error.errno == errno.EROFS:
            return Capabilities(writable=False, exclusive_create=False)
        raise
    if not exclusive:
        warnings.warn(
            f"{files.url} ignores conditional writes, so the store runs in single-writer mode: let only one process "
            "write at a time",
            SingleWriterWarning,
            stacklevel=5,
        )
    return Capabilities(writable=True, exclusive_create=exclusive)
