"""What a backend can really do, found out by trying."""

import warnings
from dataclasses import dataclass

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import StoreReadOnlyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the backend proved when the store was opened."""

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
    except PermissionError:
        return Capabilities(writable=False, exclusive_create=False)
    except OSError as error:
        if error.errno == 30:  # a disk that is mounted read-only
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


def require_writable(files: Files, capabilities: Capabilities) -> None:
    """Refuse to write where that is known to be impossible."""
    if not capabilities.writable:
        raise StoreReadOnlyError(
            f"{files.url} can be read but not written; open it as a user, or with credentials, that may write"
        )
