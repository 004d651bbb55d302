"""Names a model after its bytes: configs byte for byte, weights by sha256, remembered as long as no file changes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

_REMEMBERED = "fingerprints.json"
_SKIPPED = frozenset({"README.md", "LICENSE", "LICENSE.txt", ".gitattributes"})


def cache_folder() -> Path:
    """Where the engine keeps what it can always make again."""
    named = os.environ.get("HEADSTART_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headstart"


def fingerprint(folder: Path, parts: Iterable[str] | None = None) -> str:
    """Digest everything under `folder` (or only its sub-folders `parts`) that decides a result."""
    roots = [folder] if parts is None else [folder / part for part in parts]
    files = sorted(path for root in roots for path in root.rglob("*") if path.is_file() and not _is_idle(path, folder))
    remembered = _Remembered()
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(folder).as_posix()}\0{remembered.digest(path)}\n".encode())
    remembered.save()
    return whole.hexdigest()


def fingerprint_of(files: Iterable[Path]) -> str:
    """Digest files by their bytes alone, whatever they are called: what lies in them decides a result."""
    remembered = _Remembered()
    whole = hashlib.sha256("".join(f"{remembered.digest(file)}\n" for file in files).encode())
    remembered.save()
    return whole.hexdigest()


def _is_idle(path: Path, folder: Path) -> bool:
    inner = path.relative_to(folder).parts
    return path.name in _SKIPPED or any(part.startswith(".") for part in inner)


class _Remembered:
    """sha256 by path, size and times: a model of many gigabytes is read once, not at every start.

    Size and mtime alone would take one file for another: archives often give all their files one mtime.
    """

    def __init__(self) -> None:
        self._path = cache_folder() / _REMEMBERED
        self._new = False
        try:
            self._known: dict[str, str] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            self._known = {}

    def digest(self, path: Path) -> str:
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
        if name not in self._known:
            with path.open("rb") as file:
                self._known[name] = hashlib.file_digest(file, "sha256").hexdigest()
            self._new = True
        return self._known[name]

    def save(self) -> None:
        if not self._new:
            return
        scratch = self._path.with_suffix(f".{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(self._known))
            scratch.replace(self._path)
        except OSError:  # a read-only home only costs reading the weights again
            with contextlib.suppress(OSError):
                scratch.unlink()
