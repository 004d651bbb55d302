"""Whether a root is a store of ours; and a new store in an empty one."""

import datetime as dt
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final

from prior_store import layout
from prior_store.backends.capabilities import Capabilities, probe
from prior_store.backends.files import Files
from prior_store.errors import NotAStoreError, StoreError, StoreUnreachableError, StoreVersionError

FORMAT: Final = "headstart-store"
VERSION: Final = 1


class Root:
    """A root that is ours. What its backend can do is tried before the first write, so that a full disk can be read."""

    def __init__(self, files: Files, record: bytes) -> None:
        self._files, self._record = files, record

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the backend can do, by trying it once."""
        with access_told(self._files):
            return probe(self._files, self._record)


def open_root(files: Files, *, create: bool) -> Root:
    """Recognise the store, or create it in an empty root."""
    with access_told(files):
        content = _record(files)
        if content is None:
            _refuse_foreign(files)
            content = _record(files)  # somebody else may have made the store between our look and our listing
        if content is None:
            if not create:
                raise NotAStoreError(
                    f"there is no store at {files.url}; check the address, or create one by writing to it"
                )
            content = _create(files)
        _check_version(files, content)
        return Root(files, content)


@contextmanager
def access_told(files: Files) -> Iterator[None]:
    """Say why a root cannot be reached, and what to do."""
    try:
        yield
    except (StoreError, UnicodeDecodeError):
        raise
    except FileNotFoundError as error:
        raise StoreUnreachableError(
            f"the bucket or folder of {files.url} does not exist and cannot be made from here; create it first"
        ) from error
    except PermissionError as error:
        raise StoreUnreachableError(
            f"{files.url} refuses access ({error}); check the rights of this user, or the credentials in the environment"
        ) from error
    except Exception as error:
        if not _is_about_access(error):
            raise
        raise StoreUnreachableError(
            f"{files.url} cannot be reached ({type(error).__name__}: {error}); check address, endpoint and credentials"
        ) from error


def _record(files: Files) -> bytes | None:
    try:
        return files.read(layout.STORE)
    except FileNotFoundError:
        return None


def _refuse_foreign(files: Files) -> None:
    ours = {layout.STORE, *layout.ROOMS}
    foreign = [
        name
        for name in files.names("")
        if name not in ours
        and not name.startswith(layout.PROBE)
        and not layout.is_temporary(name)
        and name != "lost+found"
    ]
    if foreign:
        shown = ", ".join(repr(name) for name in foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise NotAStoreError(
            f"{files.url} holds other things ({shown}) and no {layout.STORE}; nothing was written, choose an empty folder"
        )


def _create(files: Files) -> bytes:
    place = layout.probe_path()
    files.put(place, b"{}")
    exclusive = files.exclusive = files.refuses_second_create(place, b"{}")
    files.remove(place)
    record = {
        "format": FORMAT,
        "version": VERSION,
        "id": secrets.token_hex(16),
        "created_at": dt.datetime.now(dt.UTC).isoformat(),
        "capabilities": {"exclusive_create": exclusive},
    }
    content = (json.dumps(record, indent=1) + "\n").encode()
    return content if files.create(layout.STORE, content) else files.read(layout.STORE)


def _check_version(files: Files, content: bytes) -> None:
    try:
        record: dict[str, Any] = json.loads(content)
        name, version = record["format"], record["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotAStoreError(
            f"{files.url}/{layout.STORE} is not a store record ({type(error).__name__}: {error}); restore that file from a "
            "backup, nothing else is needed and nothing was written"
        ) from error
    if name != FORMAT:
        raise NotAStoreError(
            f"{files.url}/{layout.STORE} names the format {name!r}, not {FORMAT!r}; nothing was written"
        )
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise NotAStoreError(
            f"{files.url}/{layout.STORE} names the version {version!r}, and versions are whole numbers from 1; restore that "
            "file from a backup, nothing was written"
        )
    if version > VERSION:
        raise StoreVersionError(
            f"{files.url} has store format {version!r} and this release knows up to {VERSION}; update this installation "
            "(nothing was written)"
        )


def _is_about_access(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, OSError) or bool(
        names & {"BotoCoreError", "ClientError", "HttpError", "ClientConnectionError"}
    )
