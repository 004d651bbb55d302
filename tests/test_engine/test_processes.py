"""Snapshots outlive the process that made them, however it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_cases import identity, told
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from prior_engine import Engine, ModelSpec, RunOptions, Schedule, Snapshot

N = 5
SOLVERS = {
    "euler": Schedule(num_inference_steps=N),
    "unipc": Schedule(scheduler="UniPCMultistepScheduler", num_inference_steps=N),
    "lcm": Schedule(scheduler="FlowMatchLCMScheduler", num_inference_steps=N),
}


def keep(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot so that its name appears only when it is whole."""
    scratch = folder / f"{snapshot.step}.scratch"
    save_file(snapshot.tensors(), scratch, metadata=snapshot.metadata())
    scratch.rename(folder / f"{snapshot.step}.safetensors")


def fetch(path: Path) -> Snapshot:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return Snapshot.from_parts(load_file(path), metadata)


# A process of its own that has run nothing yet, so that its forks inherit no thread and no lock; each fork records, waits
# after its step, and is killed.
RECORDER = """
import os, signal, sys, time
from pathlib import Path
folder, model = Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = sys.argv[3:]
import torch
torch.set_num_threads(1)
from engine_cases import identity, told
from test_processes import N, SOLVERS, keep
from prior_engine import Engine, ModelSpec
from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler, WanPipeline  # slow to import, so once for all
from transformers import AutoTokenizer, UMT5EncoderModel
for name, schedule in SOLVERS.items():
    for step in range(N - 1):
        place = folder / name / str(step)
        place.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            engine = Engine(ModelSpec(source=model, device="cpu"))
            for snapshot in engine.record(identity("wan-t2v"), told("wan-t2v"), schedule):
                keep(snapshot, place)
                if snapshot.step == step:
                    time.sleep(600)
        while not (place / f"{step}.safetensors").exists():
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the recording process ended by itself"
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def run_script(script, folder, model):
    here = Path(__file__).parent
    paths = [str(here), str(here.parent), str(here.parents[1])]
    command = [sys.executable, "-c", script, str(folder), str(model), *paths]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def killed(tiny, tmp_path_factory):
    """What processes left that were killed after each step of each solver."""
    folder = tmp_path_factory.mktemp("killed")
    run_script(RECORDER, folder, tiny("wan-t2v"))
    return folder


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.process
def test_killed_after_each_step_and_continued_gives_the_same_bits(name, engine, killed):
    one, asked, schedule = engine("wan-t2v"), identity("wan-t2v"), SOLVERS[name]
    whole = list(one.record(asked, told("wan-t2v"), schedule))
    for step in range(N - 1):
        folder = killed / name / str(step)
        assert not (folder / f"{step + 1}.safetensors").exists()
        rest = list(one.record(asked, told("wan-t2v"), schedule, after=fetch(folder / f"{step}.safetensors")))
        assert [snapshot.step for snapshot in rest] == list(range(step + 1, N))
        for snapshot in rest:
            assert torch.equal(snapshot.latents, whole[snapshot.step].latents)


CHILD = """
import sys
from pathlib import Path
folder, model = Path(sys.argv[1]), sys.argv[2]
sys.path[:0] = sys.argv[3:]
import torch
torch.set_num_threads(1)
from engine_cases import identity, told
from test_processes import SOLVERS, fetch
from prior_engine import Engine, ModelSpec
engine = Engine(ModelSpec(source=model, device="cpu"))
for path in sorted(folder.glob("*/*.safetensors")):
    variant = engine.resume(fetch(path), identity("wan-t2v"), told("wan-t2v"), SOLVERS[path.parent.name])
    path.with_suffix(".result").write_bytes(variant.latents.latents.numpy().tobytes())
"""


@pytest.mark.process
def test_another_process_resumes_from_the_files_with_the_same_bits(engine, tiny, tmp_path):
    finals = {}
    for name, schedule in SOLVERS.items():
        (tmp_path / name).mkdir()
        for snapshot in engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), schedule):
            if snapshot.is_final:
                finals[name] = snapshot.latents.numpy().tobytes()
            else:
                keep(snapshot, tmp_path / name)
    run_script(CHILD, tmp_path, tiny("wan-t2v"))
    results = sorted(tmp_path.glob("*/*.result"))
    assert len(results) == len(SOLVERS) * (N - 1)
    for path in results:
        assert path.read_bytes() == finals[path.parent.name], path


def test_a_recording_that_nobody_reads_on_stops(engine):
    steps = []
    run = engine("wan-t2v").record(
        identity("wan-t2v"),
        told("wan-t2v"),
        Schedule(num_inference_steps=20),
        options=RunOptions(on_step=lambda step, _: steps.append(step)),
    )
    assert next(run).step == 0
    run.close()
    assert len(steps) < 20
    # The engine is free for the next run.
    assert list(engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), SOLVERS["euler"]))[-1].is_final


def test_a_step_can_be_saved_while_the_next_one_runs(engine):
    """The recording does not wait for its reader: with one snapshot in hand, a later step is made."""
    import threading

    later = threading.Event()
    run = engine("wan-t2v").record(
        identity("wan-t2v"),
        told("wan-t2v"),
        SOLVERS["euler"],
        options=RunOptions(on_step=lambda step, _: later.set() if step == 1 else None),
    )
    assert next(run).step == 0
    assert later.wait(timeout=60)
    assert [snapshot.step for snapshot in run] == [1, 2, 3, 4]


def test_a_fresh_engine_gives_the_same_bits_as_a_used_one(engine, tiny):
    schedule = SOLVERS["unipc"]
    used = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), schedule)
    fresh = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu"))
    assert torch.equal(
        fresh.scratch(identity("wan-t2v"), told("wan-t2v"), schedule).latents.latents, used.latents.latents
    )
