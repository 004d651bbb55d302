"""How long a plan of 10,000 rows takes on a store whose manifest has 100,000: wall seconds of the whole command.

python benchmarks/workflow/plan_speed.py [rows] [manifest rows]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def fill(store_folder: Path, count: int) -> None:
    """Rows as batches write them, then compacted."""
    from prior_store import Store, recipe_key

    store = Store.open(store_folder)
    for start in range(0, count, 10_000):
        store.add_rows(
            {
                "kind": "variants",
                "key": recipe_key({"kind": "other", "number": number}),
                "identity": f"cat{number % 500}",
                "batch": f"batch-{number // 1000}",
                "status": "done",
                "steps_run": 3,
                "denoise_s": 0.5,
                "model_fingerprint": "x",
                "prompt": f"prompt number {number}",
            }
            for number in range(start, min(count, start + 10_000))
        )
    store.compact(grace_s=0)


def main(rows: int = 10_000, manifest: int = 100_000) -> None:
    import tiny_models

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_models.build("wan-t2v", folder / "model")
        fill(folder / "store", manifest)
        lines = [f"cat{number % 500},a cat does thing {number},a cat,{number % 500}" for number in range(rows)]
        (folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *lines]) + "\n")
        settings = [f"model={model}", "model.height=32", "model.width=32", "model.frames=5"]
        command = [sys.executable, "-m", "flows.cli", "plan", "sheet=sheet.csv", "store=store", "--json", *settings]
        times = []
        for _ in range(4):
            started = time.perf_counter()
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=True,
            )
            times.append(time.perf_counter() - started)
        plan = json.loads(done.stdout)
        assert len(plan["rows"]) == rows
        print(
            f"{rows} rows, {manifest} manifest rows: {sorted(times[1:])[1]:.2f} s (all: {[round(t, 2) for t in times]})"
        )


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
