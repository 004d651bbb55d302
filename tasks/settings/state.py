"""Where Headstart keeps what is no result."""

from __future__ import annotations

import os


def state_dir() -> str:
    """Where this user's Headstart keeps what is not a result: server database, device locks."""
    home = os.environ.get("HEADSTART_HOME")
    if home:
        return home
    return os.path.join(os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "headstart")  # noqa: PTH118, PTH111
