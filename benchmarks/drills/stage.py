"""Where a drill happens: a folder with a sheet, a tiny model, a store, and the command line as a process."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drills import checker

ROOT = Path(__file__).resolve().parents[2]
CANARY = "c4n4ry-5ecret"
SETTINGS = [
    "model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=12", "runner.devices=cpu",
    "runner.chunk_size=1", "start_step=5", "prior.lease_s=2",
]  # fmt: skip
IDENTITIES, PROMPTS = 3, 4


@dataclass
class Tally:
    """What came of one kind of harm. All but `times` is to be zero."""

    kind: str
    times: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    escaped: int = 0
    leaked: int = 0
    failed: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing happened that must not."""
        return self.times > 0 and not any((self.lost, self.doubled, self.wrong, self.escaped, self.leaked, self.failed))


@dataclass
class Stage:
    """One drill's folder; `reference` is what the same sheet gives when nobody disturbs it."""

    folder: Path
    model: Path
    prepared: Any
    rng: random.Random
    reference: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        rows = [f"id{i},does {p},an id{i},{i}" for i in range(IDENTITIES) for p in range(PROMPTS)]
        (self.folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *rows]) + "\n")

    @property
    def store(self) -> Path:
        """The store of this drill."""
        return self.folder / "store"

    def start(
        self, verb: str, *more: str, server: str = "server=none", settings: bool = True, home: str = "home"
    ) -> Any:
        """A `headstart` process on its way; another `home` is another machine, with devices of its own."""
        lines = [f"model={self.model}", "store=store", "sheet=sheet.csv", server, *SETTINGS] if settings else []
        environment = {
            **os.environ,
            "HEADSTART_HOME": str(self.folder / home),
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
        }
        return self.prepared.start([verb, *lines, *more], self.folder, environment)

    def run(self, verb: str, *more: str, **how: Any) -> tuple[int, str]:
        """How a command ended, and all that it said."""
        process = self.start(verb, *more, **how)
        out, err = process.communicate()
        return process.returncode, out + err

    def look(self) -> checker.Seen:
        """The store, from outside."""
        return checker.look(self.store)

    def wait_for(self, finished: int, process: Any) -> None:
        """Until so many variants are committed, or the process has ended."""
        while process.poll() is None and len(list(self.store.glob("variants/*/*/COMMIT.json"))) < finished:
            time.sleep(0.005)

    def clear(self) -> None:
        """A fresh store."""
        shutil.rmtree(self.store, ignore_errors=True)

    def judge(self, tally: Tally, before: checker.Seen, *, whole: bool = True) -> None:
        """Compare the store with what was there before the harm, and with the undisturbed reference."""
        after = self.look()
        tally.lost += checker.lost(before, after) + checker.unlisted(after)
        tally.doubled += checker.doubled(after)
        bits = after.bits()
        tally.wrong += sum(self.reference[key] != latents for key, latents in bits.items()) + len(after.broken)
        if whole and bits.keys() != self.reference.keys():
            tally.failed.append(f"{len(bits)} of {len(self.reference)} rows are there in the end")


def leaks(folder: Path, texts: Iterable[str] = ()) -> int:
    """Files and texts that hold the canary."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(CANARY.encode() in path.read_bytes() for path in files) + sum(CANARY in text for text in texts)
