"""Real batches on a tiny random model: the command line in a process of its own, or the same code in this one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TINY = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4"]


def sheet_text(identities: Sequence[str], prompts: Sequence[str]) -> str:
    rows = [f"{name},a {name} {prompt},a {name},{seed}" for seed, name in enumerate(identities) for prompt in prompts]
    return "\n".join(["identity,prompt,base_prompt,seed", *rows]) + "\n"


class Bench:
    """A folder with a sheet and a store, and the command line in it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.settings = [f"model={model}", *TINY, "store=store", "sheet=sheet.csv"]
        self.environment = {
            **os.environ,
            "HEADSTART_HOME": str(folder / "home"),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
        }

    def write_sheet(self, identities: Sequence[str], prompts: Sequence[str]) -> None:
        (self.folder / "sheet.csv").write_text(sheet_text(identities, prompts))

    def command(self, verb: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", verb, *self.settings, *more]

    def start(self, verb: str, *more: str, **environment: str) -> subprocess.Popen[str]:
        root = str(Path(__file__).resolve().parent.parent.parent)
        return subprocess.Popen(
            self.command(verb, *more),
            cwd=self.folder,
            env={**self.environment, "PYTHONPATH": root, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, verb: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(verb, *more, **environment)
        out, err = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

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
def bench(tmp_path, tiny_folder):
    return Bench(tmp_path, tiny_folder)
