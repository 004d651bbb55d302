"""The record whose creation is the commit: what was kept under a key, and everything that can be said about it."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import DamagedError, StoreVersionError
from prior_store.manifest.schema import DONE, plain_row
from prior_store.recipe import recipe_key

FORMAT: Final = "headstart-commit/1"
_NEWER: Final = re.compile(r"headstart-commit/([2-9]|[1-9]\d+)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """One kept file: its size, the digest of its bytes, and the precision it was lowered to, if it was."""

    bytes: int
    sha256: str
    storage_dtype: str | None = None

    def to_plain(self) -> dict[str, object]:
        """Give plain JSON values; what is not set is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A finished object. It exists exactly when its COMMIT.json does, and it never changes."""

    kind: str
    key: str
    attempt: str
    created_at: str
    files: Mapping[str, FileInfo]
    recipe: Mapping[str, Any]
    pins: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Add up the sizes of the files."""
        return sum(info.bytes for info in self.files.values())

    @property
    def sha256(self) -> str:
        """Digest of the file table, in the format of the sha256sum command, sorted by name."""
        return hashlib.sha256(
            "".join(f"{info.sha256}  {name}\n" for name, info in sorted(self.files.items())).encode()
        ).hexdigest()

    @property
    def steps(self) -> dict[int, str]:
        """Map each kept step to the name of its snapshot, in order."""
        found = {step: name for name in self.files if (step := layout.step_of(name)) is not None}
        return dict(sorted(found.items()))

    def path(self, name: str) -> str:
        """Give the place of one of its files below the root."""
        return layout.attempt_path(self.kind, self.key, self.attempt, name)

    def with_row(self, row: Mapping[str, Any]) -> "Commit":
        """Complete the manifest row of this object by all that the commit itself knows."""
        steps = list(self.steps.values())
        latents = next((name for name in ("latents.safetensors", *reversed(steps)) if name in self.files), None)
        known = {
            "latents_uri": self.path(latents) if latents else None,
            "video_uri": self.path("video.mp4") if "video.mp4" in self.files else None,
            "preview_uri": self.path("preview.png") if "preview.png" in self.files else None,
            "versions": json.dumps(self.versions, sort_keys=True, ensure_ascii=False) if self.versions else None,
            **row,
            "kind": self.kind,
            "key": self.key,
            "status": DONE,
            "bytes": self.total_bytes,
            "sha256": self.sha256,
            "created_at": self.created_at,
        }
        return replace(self, row=plain_row(known))

    def to_json(self) -> bytes:
        """Write the record; the attempt, which nobody else has, comes first."""
        plain = {
            "format": FORMAT,
            "attempt": self.attempt,
            "kind": self.kind,
            "key": self.key,
            "created_at": self.created_at,
            "recipe": self.recipe,
            "files": {name: info.to_plain() for name, info in sorted(self.files.items())},
            "pins": self.pins,
            "timings": self.timings,
            "versions": self.versions,
            "row": self.row,
        }
        # One line a field: a person can read it, and writing it costs a tenth of what an indented tree does.
        lines = [f'"{name}": {json.dumps(value, ensure_ascii=False, allow_nan=False)}' for name, value in plain.items()]
        return ("{\n " + ",\n ".join(lines) + "\n}\n").encode()

    @classmethod
    def from_json(cls, content: bytes, kind: str, key: str) -> "Commit":
        """Read the record of a key, or say what is wrong with it."""
        place = layout.commit_path(kind, key)
        try:
            plain = json.loads(content)
            if _NEWER.match(plain["format"]):
                # Not damaged, and so neither made again nor put into quarantine.
                raise StoreVersionError(
                    f"{place} has the format {plain['format']!r} and this release reads {FORMAT!r}; update this installation "
                    "(nothing was changed)"
                )
            if plain["format"] != FORMAT:
                raise DamagedError(
                    f"{place} has the format {plain['format']!r} and not {FORMAT!r}; run `headstart store repair` to put it into "
                    "quarantine, then make the object again"
                )
            commit = cls(
                kind=plain["kind"],
                key=plain["key"],
                attempt=layout.checked_name(plain["attempt"]),
                created_at=plain["created_at"],
                files={layout.checked_name(name): FileInfo(**info) for name, info in plain["files"].items()},
                recipe=plain["recipe"],
                pins=plain["pins"],
                timings=plain["timings"],
                versions=plain["versions"],
                row=plain["row"],
            )
        except (DamagedError, StoreVersionError):
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(
                f"{place} is not a whole commit record ({type(error).__name__}: {error}); run `headstart store repair` to put it "
                "into quarantine, then make the object again"
            ) from error
        if (commit.kind, commit.key) != (kind, key) or recipe_key(commit.recipe) != key:
            raise DamagedError(
                f"{place} belongs to another recipe; run `headstart store repair` to put it into quarantine"
            )
        return commit


def read_commit(files: Files, kind: str, key: str) -> Commit | None:
    """Read the commit record of a key, None if it is not committed: the truth, fresh from the store."""
    content = files.content_or_none(layout.commit_path(kind, key))
    return None if content is None else Commit.from_json(content, kind, key)
