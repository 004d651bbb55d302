"""The Prefect server under a running batch is killed, frozen, or gone for good."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.drills import checker
from benchmarks.drills.stage import IDENTITIES, Stage, Tally

_PORT = 4980
_PROMPTS = 67
ROWS = IDENTITIES * _PROMPTS


@contextmanager
def served(stage: Stage, port: int = _PORT) -> Iterator[None]:
    """A server of its own for this drill."""
    from flows.on_prefect import server
    from tasks.settings import ServerSettings

    before = os.environ.copy()
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["HEADSTART_HOME"] = str(stage.folder / "home")
    try:
        server.start(ServerSettings(port=port))
        yield
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(before)


def killed(stage: Stage, tally: Tally, away: float) -> None:
    """SIGKILL at a random moment of a batch of 200 rows; back after `away` seconds."""
    from flows.on_prefect import server
    from tasks.settings import ServerSettings

    many = [f"id{i},does {p},an id{i},{i}" for i in range(IDENTITIES) for p in range(_PROMPTS)]
    (stage.folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *many]) + "\n")
    with served(stage):
        process = stage.start("run", "-q", server=f"server.port={_PORT}")
        stage.wait_for(stage.rng.randrange(ROWS), process)
        found = server.running()
        if found is not None:
            os.killpg(found.pid, signal.SIGKILL)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < away:
            time.sleep(0.05)
        if process.poll() is None and away < 60:
            server.start(ServerSettings(port=_PORT))
        out, err = process.communicate()
    if process.returncode != 0 or "Traceback" in err or f"{ROWS} variants made" not in out:
        tally.failed.append(f"ended with {process.returncode}: {err[-500:]}")
    if not list(stage.store.glob("batches/*/report.html")):
        tally.failed.append("there is no report")
    seen = stage.look()
    tally.wrong += len(seen.broken)
    tally.lost += ROWS - len(seen.bits())
    tally.doubled += checker.doubled(seen)
