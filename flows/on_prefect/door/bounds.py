"""What a deployment may be told. Its form is filled in by whoever reaches the server, and runs as the user who serves it.

Places lie below the roots that were given when it was served; other settings are on a list of those that only decide what
a video looks like; and what was served itself may be said again. Everything else needs a shell.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tasks.errors import SettingsError
from tasks.secrets import masked_setting

_ENVIRONMENT = "HEADSTART_BOUNDS"
_PLACES = {"sheet", "sheet.path", "sheet.identities", "store", "store.url", "model", "model.source"}
# A name of ours instead of a place.
_NAMES = {"sheet": {"demo", "default"}, "sheet.path": {"demo"}, "model": {"demo"}, "model.source": {"demo"}}
_SETTINGS = {
    "start_step", "tail", "start", "history", "guidance", "negative_prompt", "seed", "retries", "max_failures", "batch", "tags",
    "model.height", "model.width", "model.frames", "model.guidance", "model.guidance_2", "model.variant_guidance", "model.fps",
    "model.negative_prompt",
    "sheet.format", "sheet.ignore_unknown", "runner.chunk_size",
}  # fmt: skip
_GROUPS = ("schedule", "prior", "video", "guard", "inflection")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Folders, URL prefixes or hub names; and lines that may be said as they stand."""

    roots: tuple[str, ...] = ()
    lines: frozenset[str] = frozenset()

    def problems(self, lines: Iterable[str]) -> list[str]:
        """What of these settings a deployment is not told."""
        return [problem for line in lines if (problem := self._problem(line))]

    def _problem(self, line: str) -> str | None:
        key, _, value = line.partition("=")
        plain = key.lstrip("+~")
        if line in self.lines or plain in _SETTINGS or plain.partition(".")[0] in _GROUPS:
            return None
        if plain not in _PLACES:
            return f"{masked_setting(line)!r} is nothing that a deployment can be told"
        if value in _NAMES.get(plain, ()) or any(within(value, root) for root in self.roots):
            return None
        return f"{masked_setting(line)!r} lies outside of {list(self.roots) or 'everything, for no root is configured'}"


def within(value: str, root: str) -> bool:
    """Whether a place lies at or below another, with links followed and `..` worked out."""
    if "::" in value or "\x00" in value:
        return False
    local, local_root = _local(value), _local(root)
    if local is None or local_root is None:
        base = root.rstrip("/")
        plain = ".." not in unquote(value).split("/") and "\\" not in value
        return local is local_root and plain and (value == base or value.startswith(f"{base}/"))
    try:
        return local.resolve().is_relative_to(local_root.resolve())
    except (OSError, RuntimeError):
        return False


def _local(place: str) -> Path | None:
    if "://" not in place:
        return Path(place)
    parts = urlsplit(place)
    return Path(unquote(parts.path)) if parts.scheme in {"file", "local"} else None


def allowed(lines: Sequence[str]) -> Sequence[str]:
    """The lines, where this run may be told them; a run that no deployment started may be told anything."""
    from prefect.runtime import deployment

    if deployment.id is None:
        return lines
    problems = configured().problems(lines)
    if problems:
        raise SettingsError(
            "; ".join(problems) + ". Give the roots where it is served (headstart nightly --root, or HEADSTART_ROOTS "
            "of a worker), or run it from a shell"
        )
    return lines


def configured() -> Bounds:
    """The bounds of this process: of `headstart nightly`, or of a worker."""
    kept = json.loads(os.environ.get(_ENVIRONMENT, "{}"))
    roots = [root for root in os.environ.get("HEADSTART_ROOTS", "").split(",") if root]
    return Bounds(roots=(*kept.get("roots", ()), *roots), lines=frozenset(kept.get("lines", ())))


def configure(bounds: Bounds) -> None:
    """Hand the bounds to the processes that this one starts. They never pass through the server."""
    os.environ[_ENVIRONMENT] = json.dumps({"roots": bounds.roots, "lines": sorted(bounds.lines)})
