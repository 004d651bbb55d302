"""What the workflow costs beside the model: 1,000 variants whose walk and video are no work at all.

Claims, files, commits, manifest rows and Prefect's records are real; the engine answers from memory. Prints the
milliseconds a variant, end to end, and how long the server took until it showed every task run as ended.

    python benchmarks/workflow/overhead.py [variants] [server|none]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def make_work_free() -> None:
    """Answer every variant with the same tiny latents and a video that is written already."""
    import tasks.making.variant
    from prior_engine import Engine, VariantResult

    plain = Engine.resume
    answers: list[VariantResult] = []

    def resume(self, *arguments, **more):
        if not answers:
            answers.append(replace(plain(self, *arguments, **more), seconds=0.0))
        return answers[0]

    written = {}

    def write_files(latents, lease, runtime, context, folder):
        if not written:
            files, _ = plain_write(latents, lease, runtime, context, folder)
            written.update({name: path.read_bytes() for name, path in files.items()})
        return dict(written), {"decode": 0.0, "encode": 0.0}

    plain_write = tasks.making.variant.write_files
    tasks.making.variant.write_files = write_files
    Engine.resume = resume


def flushed_file(folder: Path, count: int = 100) -> float:
    """Seconds for what no store can do without: one small file that survives a power cut."""
    started = time.perf_counter()
    for number in range(count):
        with (folder / f"flushed-{number}").open("wb") as file:
            file.write(b"x" * 5000)
            file.flush()
            os.fsync(file.fileno())
    return (time.perf_counter() - started) / count


def main(count: int = 1000, mode: str = "server") -> None:
    import tiny_models

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["HEADSTART_HOME"] = str(folder / "home")
        model = tiny_models.build("wan-t2v", folder / "model")
        make_work_free()
        import flows
        from flows.on_prefect import server
        from flows.on_prefect.server import connect, quiet_environment
        from tasks.settings import ServerSettings

        quiet_environment()
        if mode == "server":
            connect(ServerSettings(port=4460))
        # One prompt with many guidance scales: encoding text is the model's work, not the workflow's.
        lines = [f"fox{number % 10},a fox runs,a fox,{number % 10},{1 + number / 1000}" for number in range(count)]
        (folder / "s.csv").write_text("\n".join(["identity,prompt,base_prompt,seed,guidance", *lines]) + "\n")
        overrides = [
            f"model={model}",
            "model.height=32",
            "model.width=32",
            "model.frames=5",
            f"store={folder / 'store'}",
        ]
        overrides += [] if mode == "server" else ["server=none"]
        # Priors, embeddings and imports beforehand: they are not what is measured.
        flows.generate_prior(str(folder / "s.csv"), overrides=overrides)
        print(f"a flushed file of 5 kB takes {1000 * flushed_file(folder):.2f} ms on this disk now")
        started, busy = time.perf_counter(), time.process_time()
        result = flows.render_sheet(str(folder / "s.csv"), overrides=[*overrides, "batch=measured"])
        wall = time.perf_counter() - started
        assert result.done == count, result.failed[:3]
        busy = time.process_time() - busy
        print(
            f"{count} variants in {wall:.1f} s: {1000 * wall / count:.1f} ms a variant, end to end, "
            f"{1000 * busy / count:.1f} ms of them this process's CPU ({mode})"
        )
        if mode == "server":
            asyncio.run(_wait_for_records())
            server.stop()


async def _wait_for_records() -> None:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName, TaskRunFilter

    started = time.perf_counter()
    async with get_client() as client:
        while time.perf_counter() - started < 300:
            states: dict[str, int] = {}
            offset = 0
            while True:
                runs = await client.read_task_runs(
                    flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["measured"])),
                    task_run_filter=TaskRunFilter(),
                    limit=200,
                    offset=offset,
                )
                for run in runs:
                    states[run.state_name or "?"] = states.get(run.state_name or "?", 0) + 1
                if len(runs) < 200:
                    break
                offset += 200
            if set(states) == {"Completed"}:
                print(f"the server shows {states} after {time.perf_counter() - started:.1f} s")
                return
            await asyncio.sleep(0.5)
    print(f"after 300 s the server shows {states}")


if __name__ == "__main__":
    main(*(kind(value) for kind, value in zip((int, str), sys.argv[1:], strict=False)))
