"""Who may talk to the server of this machine: whoever can read one file of the state folder."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

# Where the browser finds the page that lets it in; the secret stands behind the '#', which no browser sends.
ENTRANCE = "/headstart/enter"


def privately(path: str, flags: int) -> int:
    """An opener of files that nobody else may read."""
    return os.open(path, flags, 0o600)


def secret_of(folder: Path) -> str:
    """`user:password` of the server whose files lie in `folder`; made on first use."""
    file = folder / "secret"
    try:
        with open(file, "x", encoding="ascii", opener=privately) as made:
            made.write(f"headstart:{secrets.token_urlsafe(32)}")
    except FileExistsError:
        file.chmod(0o600)
    return file.read_text(encoding="ascii").strip()


def entrance(ui_url: str, secret: str) -> str:
    """The address that lets a browser in, for good."""
    return f"{ui_url}{ENTRANCE}#{base64.b64encode(secret.encode()).decode()}"


def closed_to_others(folder: Path) -> None:
    """Nobody else on this machine reads the server's files, those of earlier versions included."""
    folder.chmod(0o700)
    for file in folder.iterdir():
        if file.is_file() and not file.is_symlink():
            file.chmod(0o600)
