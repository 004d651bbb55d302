"""Judges a store from outside, by its format page: with pyarrow, json and hashlib alone, and nothing of Headstart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq


@dataclass
class Seen:
    """What a store holds: the digests of whole objects, what is not whole, and where rows say that a key was made."""

    whole: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    made: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def bits(self) -> dict[str, str]:
        """The latents of every variant."""
        return {key: files["latents.safetensors"] for (kind, key), files in self.whole.items() if kind == "variants"}


def look(root: Path) -> Seen:
    """Read all of it, and compute every digest again."""
    seen = Seen()
    for record in sorted(root.glob("*/??/*/COMMIT.json")):
        kind, key = record.parts[-4], record.parts[-2]
        try:
            commit = json.loads(record.read_text())
            files = {name: _digest(record.parent / commit["attempt"] / name) for name in commit["files"]}
            told = {name: entry["sha256"] for name, entry in commit["files"].items()}
            recipe = json.dumps(commit["recipe"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            good = files == told and hashlib.sha256(recipe.encode()).hexdigest() == key
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            good = False
        if good:
            seen.whole[kind, key] = files
        else:
            seen.broken.append(f"{kind}/{key}")
    for row in _rows(root):
        if row["status"] == "done":
            seen.made.setdefault((row["kind"], row["key"]), set()).add(row["video_uri"])
    return seen


def lost(before: Seen, after: Seen) -> int:
    """What was whole and is not there any more, or is something else now."""
    return sum(after.whole.get(name) != files for name, files in before.whole.items())


def doubled(seen: Seen) -> int:
    """Keys of which rows name more than one video: they were made more than once. A row may stand there twice."""
    return sum(len(places) > 1 for places in seen.made.values())


def unlisted(seen: Seen) -> int:
    """Objects without a row: they are there and nobody finds them."""
    return sum(name not in seen.made for name in seen.whole)


def _rows(root: Path) -> list[dict[str, str]]:
    found, absorbed = [], set()
    files = [*sorted(root.glob("manifest/base/*.parquet")), *sorted(root.glob("manifest/log/*.parquet"))]
    for file in files:
        try:
            table = pq.read_table(file)
        except (OSError, ValueError):
            continue
        told = (table.schema.metadata or {}).get(b"headstart.absorbed", b"[]")
        absorbed |= {str(root / path) for path in json.loads(told)}
        found.append((str(file), table.select(["kind", "key", "status", "video_uri"]).to_pylist()))
    return [row for file, rows in found if file not in absorbed for row in rows]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
