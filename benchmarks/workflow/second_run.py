"""The same sheet twice, 2 identities x 50 variants on the embedded model, with a running server.

Counts how often the denoiser is called in each run and takes the second run's time as a person would: the whole command.

    python benchmarks/workflow/second_run.py [variants an identity]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]


def count_calls() -> list[int]:
    """Count the calls of the denoiser from now on."""
    from diffusers import WanTransformer3DModel

    calls = [0]
    plain = WanTransformer3DModel.forward

    def forward(self, *arguments, **named):
        calls[0] += 1
        return plain(self, *arguments, **named)

    WanTransformer3DModel.forward = forward
    return calls


def main(variants: int = 50) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HEADSTART_HOME"] = str(folder / "home")
        import flows
        from flows.on_prefect import server
        from flows.on_prefect.server import connect, quiet_environment
        from tasks.settings import ServerSettings

        lines = [
            f"{color},a {color} circle moves {number % 7} then {number},a {color} circle,{seed}"
            for seed, color in enumerate(("red", "blue"))
            for number in range(variants)
        ]
        (folder / "s.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *lines]) + "\n")
        overrides = ["model=demo", f"store={folder / 'store'}"]
        quiet_environment()
        connect(ServerSettings(port=4470))
        try:
            calls = count_calls()
            for run in ("first", "second"):
                calls[0], started = 0, time.perf_counter()
                result = flows.render_sheet(str(folder / "s.csv"), overrides=overrides)
                wall = time.perf_counter() - started
                print(f"{run} run: {result.done} made, {result.cached} there, {calls[0]} denoiser calls, {wall:.1f} s")
                assert not result.failed, result.failed[:3]
            command = [sys.executable, "-m", "flows.cli", "run", f"sheet={folder / 's.csv'}", *overrides]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            times = []
            for _ in range(3):
                started = time.perf_counter()
                said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                times.append(time.perf_counter() - started)
            print(f"the command once more: {[round(one, 1) for one in times]} s; {said.splitlines()[0]}")
            rows = rows_done(folder / "store")
            print(f"manifest: {rows} rows done")
            assert rows == 2 * variants + 2
        finally:
            server.stop()


def rows_done(store: Path) -> int:
    """How many rows the manifest lists as done."""
    from prior_store import Store

    return sum(len(Store.open(store).known(kind)) for kind in ("priors", "variants"))


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
