"""A tiny Wan goes the whole way: record, resume, decode, mp4."""

import subprocess
import sys

import pytest
import torch

from prior_engine import Conditioning, Engine, Identity, ModelSpec, Schedule, Snapshot, write_video

pytestmark = pytest.mark.process
IDENTITY = Identity(prompt="a cat", seed=3, height=32, width=32, frames=9)
TOLD = Conditioning(prompt="a cat", guidance=3.0, max_sequence_length=32)


def test_record_resume_decode_write(tiny, tmp_path):
    engine = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu"))
    schedule = Schedule(num_inference_steps=4)
    prior = list(engine.record(IDENTITY, TOLD, schedule))
    again = Snapshot.from_parts(prior[1].tensors(), prior[1].metadata())
    variant = engine.resume(again, IDENTITY, TOLD, schedule)
    assert torch.equal(variant.latents.latents, prior[-1].latents)
    assert write_video(engine.decode(variant.latents), tmp_path / "v.mp4") == 9
    assert (tmp_path / "v.mp4").stat().st_size > 0


def test_importing_the_package_and_its_values_imports_no_torch():
    code = (
        "import sys, prior_engine as e\n"
        "e.Identity, e.Conditioning, e.Schedule, e.ModelSpec, e.inspect_model, e.Picture\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
