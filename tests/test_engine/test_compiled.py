"""Compiled blocks: other bits than plain ones, told in the recipe, and the same bits whatever was compiled before."""

import os
import subprocess
import sys

import pytest
import torch
from engine_cases import identity, told
from safetensors.torch import load_file

from prior_engine import Engine, ModelSpec, Schedule
from prior_engine.errors import RequestError
from prior_engine.models.info import inspect_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    # The compiler's own.
    pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning"),
]
SCHEDULE = Schedule(num_inference_steps=3)
# Another process, which compiles everything anew.
RUN = """
import sys
from engine_cases import identity, told
from safetensors.torch import save_file
from prior_engine import Engine, ModelSpec, Schedule
engine = Engine(ModelSpec(source=sys.argv[1], device="cpu", compiled=True))
*_, last = engine.record(identity("wan-t2v"), told("wan-t2v"), Schedule(num_inference_steps=3))
save_file({"latents": last.latents}, sys.argv[2])
"""


@pytest.fixture(scope="module")
def engine(tiny):
    return Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", compiled=True))


@pytest.fixture(scope="module")
def run(engine):
    """The run of this module, after one of another size."""
    list(engine.record(identity("wan-t2v", frames=5), told("wan-t2v"), SCHEDULE))
    return list(engine.record(identity("wan-t2v"), told("wan-t2v"), SCHEDULE))


def test_the_blocks_are_compiled_and_come_close_to_plain_ones(run, tiny):
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] > 0
    *_, plain = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")).record(
        identity("wan-t2v"), told("wan-t2v"), SCHEDULE
    )
    torch.testing.assert_close(run[-1].latents, plain.latents, rtol=1e-3, atol=1e-4)


def test_a_resumed_run_has_the_bits_of_the_whole_one(run, engine):
    resumed = engine.resume(run[0], identity("wan-t2v"), told("wan-t2v"), SCHEDULE)
    assert torch.equal(resumed.latents.latents, run[-1].latents)


def test_the_bits_depend_neither_on_the_process_nor_on_what_it_ran_before(run, tiny, tmp_path):
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "out.safetensors"
    subprocess.run([sys.executable, "-c", RUN, str(tiny("wan-t2v")), str(out)], check=True, env=env, timeout=500)
    assert torch.equal(load_file(out)["latents"], run[-1].latents)


def test_it_is_told_in_the_recipe_where_it_is_done(tiny):
    plain, compiled = (
        inspect_model(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", compiled=on)).describe()
        for on in (False, True)
    )
    assert compiled == {**plain, "compiled": True}
    assert "compiled" not in plain


@pytest.mark.parametrize("more", [{"offload": "group"}, {"quantization": "float8_e4m3fn"}])
def test_what_moves_or_widens_weights_between_layers_cannot_be_compiled(more):
    with pytest.raises(RequestError, match="compiled cannot be used with"):
        ModelSpec(source="x", compiled=True, **more)


def test_a_machine_without_a_compiler_is_told(tiny, monkeypatch):
    from torch._inductor import cpp_builder, exc

    def missing():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", missing)
    engine = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", compiled=True))
    with pytest.raises(RequestError, match=r"needs a C\+\+ compiler"):
        list(engine.record(identity("wan-t2v"), told("wan-t2v"), SCHEDULE))
