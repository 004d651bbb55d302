"""Models that were downloaded before: below one folder, by the names that a hub gives them."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from tasks.settings import ModelSettings

ROOT = "HEADSTART_MODELS"
_ELSEWHERE = re.compile(r"[./~]|[a-zA-Z]:[\\/]|.*://")


def root_of(model: ModelSettings) -> Path | None:
    """The folder, if one is named."""
    named = model.root or os.environ.get(ROOT)
    return Path(named).expanduser() if named else None


def on_shelf(model: ModelSettings, text: str) -> str:
    """The path below `model.root` of `owner/name`, `owner/name:pattern` or `folder/file`; the text itself if nothing is there.

    Such a folder does not say of which revision it is, so a name with one stays a hub's.
    """
    root = root_of(model)
    if root is None or _ELSEWHERE.match(text) or Path(text).exists() or "@" in text:
        return text
    below = text.replace(":", os.sep, 1)
    whole = root / below
    if whole.exists():
        return str(whole)
    pattern = os.path.join(glob.escape(str(root)), below)  # noqa: PTH118 - it is a pattern
    return pattern if glob.has_magic(below) and glob.glob(pattern) else text  # noqa: PTH207
