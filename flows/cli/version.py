"""Which versions are in use: the first thing that a report of a fault needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def version_line() -> str:
    """Ours, Python's, and those of what decides results; read from the installation, nothing is imported."""
    others = ", ".join(f"{name} {_of(name)}" for name in ("torch", "diffusers", "prefect"))
    return f"headstart {_of('headstart-video')} (Python {platform.python_version()}, {others})"


def _of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
