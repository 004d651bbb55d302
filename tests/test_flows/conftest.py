"""Real batches on a tiny random model: the command line in a process of its own, or the same code in this one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from prepared import Command, Prepared

TINY = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4"]


def sheet_text(identities: Sequence[str], prompts: Sequence[str]) -> str:
    rows = [f"{name},a {name} {prompt},a {name},{seed}" for seed, name in enumerate(identities) for prompt in prompts]
    return "\n".join(["identity,prompt,base_prompt,seed", *rows]) + "\n"


class Ended(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Bench:
    """A folder with a sheet and a store, and the command line in it."""

    def __init__(self, folder: Path, model: Path, prepared: Prepared) -> None:
        self.folder, self._prepared = folder, prepared
        self.settings = [f"model={model}", *TINY, "store=store", "sheet=sheet.csv"]
        self.environment = {
            **os.environ,
            "HEADSTART_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
        }

    def write_sheet(self, identities: Sequence[str], prompts: Sequence[str]) -> None:
        (self.folder / "sheet.csv").write_text(sheet_text(identities, prompts))

    def start(self, verb: str, *more: str) -> Command:
        return self._prepared.start([verb, *self.settings, *more], self.folder, self.environment)

    def run(self, verb: str, *more: str) -> Ended:
        """Start it, and wait until it has ended."""
        process = self.start(verb, *more)
        out, err = process.communicate()
        return Ended(process.returncode, out, err)

    def store(self):
        from prior_store import Store

        return Store.open(self.folder / "store", create=False)

    def files(self) -> int:
        """How many files the store holds now."""
        return sum(len(names) for _, _, names in os.walk(self.folder / "store"))

    def latents(self) -> dict[str, str]:
        """Every committed variant and the hash of its latents: equal for equal results."""
        store = self.store()
        keys = store.known("variants")
        return {key: store.commit_of("variants", key).files["latents.safetensors"].sha256 for key in keys}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    import tiny_models

    return tiny_models.build("wan-t2v", tmp_path_factory.mktemp("tiny") / "t2v")


@pytest.fixture
def bench(tmp_path, tiny_folder, prepared):
    return Bench(tmp_path, tiny_folder, prepared)
