"""What a server that is gone costs a batch: 300 rows with the server up, and with it killed for good after 10 rows.

Both are done in turn, several times, on the same machine; the ratio of their times is printed. Rows are walked for real.

    python benchmarks/workflow/server_away.py [rows] [rounds]
"""

from __future__ import annotations

import os
import random
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
PORT = 4990


def main(rows: int = 300, rounds: int = 5) -> None:
    import tiny_models
    from prepared import Prepared

    from benchmarks.drills.stage import Stage

    seconds: dict[str, list[float]] = {"up": [], "gone": []}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        model = tiny_models.build("wan-t2v", scratch / "model")
        prepared = Prepared()
        for number in range(rounds):
            for kind in ("up", "gone"):
                stage = Stage(scratch / f"{kind}-{number}", model, prepared, random.Random(number))
                lines = [f"id{row % 3},does {row},an id{row % 3},{row % 3}" for row in range(rows)]
                (stage.folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *lines]) + "\n")
                seconds[kind].append(one(stage, rows, gone=kind == "gone"))
                print(f"{kind}: {seconds[kind][-1]:.1f} s", flush=True)
        prepared.close()
    ratios = [gone / up for up, gone in zip(seconds["up"], seconds["gone"], strict=True)]
    print(
        f"{rows} rows: {statistics.median(seconds['up']):.1f} s with the server, {statistics.median(seconds['gone']):.1f} s "
        f"with it gone after 10; ratios {', '.join(f'{ratio:.3f}' for ratio in ratios)}, median {statistics.median(ratios):.3f}"
    )


def one(stage: object, rows: int, *, gone: bool) -> float:
    """Seconds from the tenth row to the end of the command."""
    from benchmarks.drills.servers import served
    from flows.on_prefect import server

    with served(stage, PORT):
        process = stage.start("run", "-q", server=f"server.port={PORT}")
        stage.wait_for(10, process)
        if gone:
            os.killpg(server.running().pid, 9)
        begun = time.monotonic()
        out, err = process.communicate()
        ended = time.monotonic() - begun
    if process.returncode != 0 or not re.search(rf"{rows} variants made, .* 0 failed", out):
        raise SystemExit(f"the batch ended with {process.returncode}: {err}")
    return ended


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
