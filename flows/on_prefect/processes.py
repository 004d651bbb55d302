"""Which process that is, for good: a pid alone may belong to somebody else by now."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def process_start(pid: int) -> str | None:
    """When a process was started, as its system tells it; None for one that has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.parent.parent.joinpath("self").exists():
        try:
            text = stat.read_text()
        except OSError:
            return None
        state, *rest = text.rpartition(")")[2].split()
        return None if state == "Z" else rest[18]
    listed = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return listed.stdout.strip() or None


def this_process() -> dict[str, Any]:
    """How others may find out whether this process still lives."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "boot": _boot(), "pid": pid, "started": process_start(pid) or ""}


def is_gone(process: Mapping[str, Any]) -> bool | None:
    """Whether a process that called itself so has ended; None where only its own machine can know."""
    if process.get("host") != socket.gethostname():
        return None
    if process.get("boot") != _boot():
        return True
    return process_start(int(process["pid"])) != process.get("started")


def _boot() -> str:
    """What changes with every start of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
