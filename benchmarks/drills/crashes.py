"""Processes that die or meet: the command line is killed, stopped, doubled; the disk under it lies."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.drills.stage import IDENTITIES, PROMPTS, Stage, Tally

_ROWS = IDENTITIES * PROMPTS


def killed(stage: Stage, tally: Tally) -> None:
    """SIGKILL at a random moment, five times at most, until the sheet is done."""
    _disturbed(stage, tally, signal.SIGKILL, (-signal.SIGKILL, 0))


def stopped(stage: Stage, tally: Tally) -> None:
    """SIGTERM at a random moment."""
    _disturbed(stage, tally, signal.SIGTERM, (130, 143, -signal.SIGTERM, 0))


def _disturbed(stage: Stage, tally: Tally, number: signal.Signals, ends: tuple[int, ...]) -> None:
    process = stage.start("run", "-q")
    stage.wait_for(stage.rng.randrange(_ROWS), process)
    time.sleep(stage.rng.random() * 0.2)
    process.send_signal(number)
    if process.wait() not in ends:
        tally.failed.append(f"ended with {process.returncode}")
    before = stage.look()
    _finished(stage, tally)
    stage.judge(tally, before)


def together(stage: Stage, tally: Tally) -> None:
    """Two runs of one sheet at once: each row is made once, whoever makes it."""
    first, second = stage.start("run", "-q"), stage.start("run", "-q")
    if (first.wait(), second.wait()) != (0, 0):
        tally.failed.append(f"ended with {first.returncode} and {second.returncode}")
    stage.judge(tally, stage.look())


def frozen(stage: Stage, tally: Tally) -> None:
    """A run is frozen past its lease, another machine takes over, the first wakes up."""
    first = stage.start("run", "-q", home="frozen")
    stage.wait_for(1 + stage.rng.randrange(3), first)
    first.send_signal(signal.SIGSTOP)
    before = stage.look()
    _finished(stage, tally)
    first.send_signal(signal.SIGCONT)
    first.wait()
    stage.judge(tally, before)


def _finished(stage: Stage, tally: Tally) -> None:
    code, said = stage.run("run", "-q")
    if code != 0:
        tally.failed.append(f"the next run ended with {code}: {said[-300:]}")


def cut_file(stage: Stage, tally: Tally) -> None:
    """A file of a finished variant is cut short: the next run makes that row again, and only that one."""
    _damaged(stage, tally, lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]))


def lost_file(stage: Stage, tally: Tally) -> None:
    """A file of a finished variant is gone."""
    _damaged(stage, tally, Path.unlink)


def _damaged(stage: Stage, tally: Tally, harm: Callable[[Path], object]) -> None:
    _finished(stage, tally)
    files = sorted(stage.store.glob("variants/*/*/a*/*"))
    harm(stage.rng.choice(files))
    hurt = stage.look()
    if len(hurt.broken) != 1:
        tally.failed.append(f"{len(hurt.broken)} objects are broken, one was meant")
    _finished(stage, tally)
    after = stage.look()
    tally.lost += sum(after.whole.get(name) != files for name, files in hurt.whole.items())
    tally.wrong += len(after.broken) + sum(stage.reference[key] != latents for key, latents in after.bits().items())


def torn_fragment(stage: Stage, tally: Tally) -> None:
    """A file of the manifest is damaged: the next run reads past it, and loses nothing."""
    _finished(stage, tally)
    before = stage.look()
    fragment = stage.rng.choice(sorted(stage.store.glob("manifest/*/*.parquet")))
    data = bytearray(fragment.read_bytes())
    data[stage.rng.randrange(len(data))] ^= 0xFF
    fragment.write_bytes(bytes(data[: stage.rng.randrange(1, len(data) + 1)]))
    _finished(stage, tally)
    after = stage.look()
    tally.lost += sum(after.whole.get(name) != files for name, files in before.whole.items())
    tally.wrong += len(after.broken)
    code, said = stage.run("store", "verify", "store=store", settings=False)
    if code != 0 and "repair" not in said:
        tally.failed.append(f"verify ended with {code} and advises nothing: {said[-300:]}")
