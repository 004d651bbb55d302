"""What a plan takes to look at rows that are made already: existence and size of each of their files.

python benchmarks/workflow/cached_rows.py [rows]
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from prior_store import Store, recipe_key  # noqa: E402
from prior_store.objects.commit import Commit, FileInfo  # noqa: E402
from prior_store.testing import recipe_of  # noqa: E402

FILES = ("latents.safetensors", "preview.png", "video.mp4")


def commit_of(number: int) -> Commit:
    """A variant as the workflow commits it, with files of three bytes."""
    told = {"prompt": "a cat " * 8, "negative_prompt": "", "guidance": 5.0}
    recipe = {**recipe_of(number), "conditioning": told, "timesteps": [float(step) for step in range(10)]}
    commit = Commit(
        kind="variants",
        key=recipe_key(recipe),
        attempt="a00000001-" + secrets.token_hex(8),
        created_at="2026-11-27T00:00:00+00:00",
        files={name: FileInfo(bytes=3, sha256="0" * 64) for name in FILES},
        recipe=recipe,
        pins={"timesteps": [float(step) for step in range(10)], "config": {str(i): i for i in range(20)}},
        versions={str(i): "1.2.3" for i in range(6)},
    )
    return commit.with_row({"prompt": "a cat", "batch": "b"})


def main(rows: int = 10_000) -> None:
    with tempfile.TemporaryDirectory() as name:
        store = Store.open(name)
        commits = [commit_of(number) for number in range(rows)]
        for commit in commits:
            folder = Path(name) / "variants" / commit.key[:2] / commit.key
            (folder / commit.attempt).mkdir(parents=True)
            for file in FILES:
                (folder / commit.attempt / file).write_bytes(b"abc")
            (folder / "COMMIT.json").write_bytes(commit.to_json())
        for at in range(0, rows, 500):
            store.add_rows([commit.row for commit in commits[at : at + 500]])
        fresh = Store.open(name)
        keys = [commit.key for commit in commits]
        begun = time.perf_counter()
        found = fresh.rows_by_key(keys, ["kind", "status"])
        looked_up = time.perf_counter() - begun
        damaged = fresh.damaged([("variants", key) for key in keys])
        seconds = time.perf_counter() - begun
        print(f"{len(found)} rows of {len(FILES)} files and a COMMIT.json each, {len(damaged)} damaged: ", end="")
        print(f"looked up in {looked_up:.2f} s, then looked at in {seconds - looked_up:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
