"""Experts in fewer bits: really smaller, exact on resume, close to what they stand for, and refused where they cannot be."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from engine_cases import OWN, identity, told
from lora_files import named, weights
from safetensors.torch import save_file

from flows.compose import compose_settings
from flows.prepare import prepare
from prior_engine import Engine, Lora, ModelSpec
from prior_engine.errors import UnsupportedError
from prior_engine.models.account import Size, counted, gib, phases
from prior_engine.models.info import inspect_model
from prior_engine.models.weights import quantized
from prior_engine.models.weights.quantized import WAYS
from tasks.errors import PlanError
from tasks.planning.models.check import broken_files

# A quarter of a minute together.
pytestmark = pytest.mark.slow
WAN = "wan-t2v"
# The class of a weight that is smaller, and how far off the end of a run may be, of the largest value there.
PACKAGED = {"int8": ("Int8Tensor", 0.03), "int8_dynamic": ("Int8Tensor", 0.04), "nf4": ("Params4bit", 0.2)}


def run(tiny, quantization=None, *loras, kind=WAN, **more):
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu", quantization=quantization, **more))
    return engine, list(engine.record(identity(kind), told(kind, loras=loras), OWN))


@pytest.fixture(scope="module")
def plain(tiny):
    return {dtype: run(tiny, dtype=dtype)[1][-1].latents for dtype in ("float32", "bfloat16")}


def bytes_of(weight):
    """What is really held, whatever a library's class says of itself."""
    inner = [
        getattr(weight, name) for name in ("qdata", "scale") if isinstance(getattr(weight, name, None), torch.Tensor)
    ]
    return sum(tensor.untyped_storage().nbytes() for tensor in inner or [weight])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", PACKAGED)
def test_weights_are_smaller_close_and_exact_on_resume(name, dtype, tiny, plain):
    kind, most = PACKAGED[name]
    engine, prior = run(tiny, name, dtype=dtype)
    held = engine._components.pipe.transformer.blocks[0].ffn.net[2].weight
    assert type(held).__name__ == kind
    assert bytes_of(held) <= 24 * 32 * WAYS[name].stored + 4 * 32
    far = (prior[-1].latents - plain[dtype]).abs().max() / plain[dtype].abs().max()
    assert 0 < far < most
    for step in (0, 2, 4):
        variant = engine.resume(prior[step], identity(WAN), told(WAN), OWN)
        assert torch.equal(variant.latents.latents, prior[-1].latents)
    assert engine.info.describe()["quantization"] == name
    # Another process would make the same: nothing is left to chance when weights are made smaller.
    assert torch.equal(run(tiny, name, dtype=dtype)[1][-1].latents, prior[-1].latents)


@pytest.mark.parametrize("name", PACKAGED)
def test_layers_that_have_to_stay_exact_stay(name, tiny):
    engine, _ = run(tiny, name, dtype="bfloat16")
    model = engine._components.pipe.transformer
    assert model.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert type(model.condition_embedder.text_embedder.linear_1.weight) is torch.nn.Parameter
    small = [key for key, held in model.named_parameters() if type(held).__name__ == PACKAGED[name][0]]
    assert len(small) == 4 * 10
    assert all(key.startswith("blocks.") for key in small)


def test_all_ways_are_told_apart(tiny):
    ends = [run(tiny, name)[1][-1].latents for name in (None, *WAYS)]
    assert not any(torch.equal(one, other) for at, one in enumerate(ends) for other in ends[:at])


@pytest.mark.parametrize("name", PACKAGED)
def test_a_lora_is_worn_over_smaller_weights_and_gone_after_it(name, tiny, tmp_path, recwarn):
    save_file(named("lightx2v", weights(1)), tmp_path / "lora.safetensors")
    lora = Lora.open(tmp_path / "lora.safetensors", 0.7)
    engine, worn = run(tiny, name, lora)
    _, wanted = run(tiny, None, lora)
    far = (worn[-1].latents - wanted[-1].latents).abs().max() / wanted[-1].latents.abs().max()
    assert 0 < far < 2 * PACKAGED[name][1]
    bare = list(engine.record(identity(WAN), told(WAN), OWN))
    assert torch.equal(bare[-1].latents, run(tiny, name)[1][-1].latents)
    assert not [said for said in recwarn if "TorchaoLoraLinear" in str(said.message)]


@pytest.mark.parametrize("name", ["int8", "int8_dynamic"])
def test_weights_that_wait_in_main_memory_give_the_same_bits(name, tiny):
    assert torch.equal(run(tiny, name, offload="group")[1][-1].latents, run(tiny, name)[1][-1].latents)


def test_both_experts_are_made_smaller(tiny):
    engine, _ = run(tiny, "int8", kind="wan-t2v-two-experts")
    for expert in ("transformer", "transformer_2"):
        assert type(getattr(engine._components.pipe, expert).blocks[0].attn1.to_q.weight).__name__ == "Int8Tensor"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ltx", "flux", "qwen-image", "cogvideox", "hunyuan-video"])
def test_other_families_take_it_too(kind, tiny):
    engine, prior = run(tiny, "int8", kind=kind)
    assert "Int8Tensor" in {type(held).__name__ for held in engine._components.pipe.transformer.parameters()}
    variant = engine.resume(prior[2], identity(kind), told(kind), OWN)
    assert torch.equal(variant.latents.latents, prior[-1].latents)


def test_the_books_count_what_each_way_takes(tiny):
    info = inspect_model(ModelSpec(source=str(tiny(WAN)), device="cpu", dtype="bfloat16"))
    part, size = counted(info)["transformer"], Size(height=480, width=832, frames=81)
    weighed = {name: gib("transformer", part, replace(info, quantization=name)) for name in (None, *WAYS)}
    assert weighed["nf4"] < weighed["int8"] < weighed[None]
    assert weighed["int8_dynamic"] < weighed["int8"] == weighed["float8_e4m3fn"]
    work = {name: phases(replace(info, quantization=name), {}, size)[1].work for name in (None, *WAYS)}
    assert work["int8_dynamic"] > work["int8"] > work[None] == work["nf4"] == work["float8_e5m2"]


@pytest.fixture
def asked(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,a fox runs\n")
    small = ["model.height=32", "model.width=32", "model.frames=9"]
    return [f"sheet={tmp_path / 's.csv'}", f"model={tiny(WAN)}", *small, f"store={tmp_path / 'store'}"]


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_missing_is_told_by_plan_and_doctor(name, asked, tiny, monkeypatch):
    package = WAYS[name].package
    assert prepare([*asked, f"accel.quantization={name}"]).plan.model["quantization"] == name
    find = quantized.find_spec
    monkeypatch.setattr(quantized, "find_spec", lambda wanted: None if wanted == package else find(wanted))
    said = rf"accel.quantization={name} needs the package {package}, which is not installed; pip install 'headstart-video\[{package}\]'"
    with pytest.raises(PlanError, match=said):
        prepare([*asked, f"accel.quantization={name}"])
    with pytest.raises(UnsupportedError, match=said):
        broken_files(compose_settings([*asked, f"accel.quantization={name}"]), str(tiny(WAN)))


def test_what_the_device_or_the_offload_does_not_allow_is_told_first(asked, tiny):
    with pytest.raises(
        UnsupportedError, match="runs on CUDA devices and CPUs, not on 'mps'; set float8_e4m3fn, or none"
    ):
        inspect_model(ModelSpec(source=str(tiny(WAN)), device="mps", quantization="int8"))
    with pytest.raises(PlanError, match="quantization=nf4 cannot be used with accel.offload=group, since the scales"):
        prepare([*asked, "accel.quantization=nf4", "accel.offload=group"])


def test_a_budget_never_chooses_what_cannot_be(asked):
    with pytest.raises(PlanError, match="accel.budget=0.0001: this model needs"):
        prepare([*asked, "accel.quantization=nf4", "accel.budget=0.0001"])


def test_a_model_without_a_layer_for_it_is_told():
    with pytest.raises(UnsupportedError, match="finds no layer of ReLU to work on"):
        quantized.quantize(torch.nn.ReLU(), "int8", torch.float32)


@pytest.mark.process
def test_what_the_packages_say_at_every_start_is_not_heard(tiny):
    code = f"""
from transformers.utils.logging import disable_progress_bar
disable_progress_bar()
from prior_engine import Conditioning, Engine, Identity, ModelSpec, Schedule
for name in ("int8", "int8_dynamic", "nf4"):
    engine = Engine(ModelSpec(source={str(tiny(WAN))!r}, device="cpu", quantization=name))
    told = Conditioning(prompt="a", max_sequence_length=8)
    list(engine.record(Identity(prompt="a", height=32, width=32, frames=5), told, Schedule(num_inference_steps=2)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stderr == ""


# How far off the largest number may be: weights that nobody trained suffer most.
TEXT = [("float8_e4m3fn", "float8_e4m3fn", 0.2), ("int8", "Int8Tensor", 0.1), ("nf4", "Params4bit", 0.5)]


@pytest.mark.parametrize(("way", "sign", "off"), TEXT)
def test_a_text_encoder_of_fewer_bits_reads_nearly_the_same(tiny, way, sign, off):
    plain, small = (
        Engine(ModelSpec(source=str(tiny(WAN)), device="cpu", text_quantization=one)) for one in (None, way)
    )
    words = told(WAN)
    (ours,), (theirs,) = (engine.encode([words]).values() for engine in (small, plain))
    encoder = small._components.pipe.text_encoder
    weights = dict(encoder.named_parameters())
    seen = {
        name
        for name, weight in weights.items()
        if sign in (type(weight).__name__, str(weight.dtype).removeprefix("torch."))
    }
    # What makes words of numbers, and what the maker wants exact, keeps its bits.
    assert any(".SelfAttention.q." in name for name in seen)
    assert not any("shared" in name or "embed" in name or ".wo." in name or "norm" in name for name in seen)
    one, other = ours.prompt["prompt_embeds"], theirs.prompt["prompt_embeds"]
    assert not torch.equal(one, other)
    assert (one - other).abs().max() < off * other.abs().max()


def test_what_was_read_with_fewer_bits_has_a_name_of_its_own(tiny):
    plain, small = (
        Engine(ModelSpec(source=str(tiny(WAN)), device="cpu", text_quantization=one)) for one in (None, "float8_e4m3fn")
    )
    assert "text_quantization" not in plain.info.describe()
    assert small.info.describe() == {**plain.info.describe(), "text_quantization": "float8_e4m3fn"}
    assert small.embedding_recipe(told(WAN)) == {**plain.embedding_recipe(told(WAN)), "quantization": "float8_e4m3fn"}


def test_a_run_with_it_is_resumed_to_the_same_bits_and_waits_as_well(tiny):
    engine, prior = run(tiny, text_quantization="float8_e4m3fn")
    again = engine.resume(prior[1], identity(WAN), told(WAN), OWN)
    assert torch.equal(again.latents.latents, prior[-1].latents)
    _, waiting = run(tiny, text_quantization="float8_e4m3fn", offload="group")
    assert torch.equal(waiting[-1].latents, prior[-1].latents)


def test_the_books_count_what_keeps_its_bits(tiny):
    plain, small = (
        inspect_model(ModelSpec(source=str(tiny(WAN)), device="cpu", dtype="bfloat16", text_quantization=one))
        for one in (None, "float8_e4m3fn")
    )
    part = counted(plain)["text_encoder"]
    assert 0 < part.exact < part.whole
    saved = (gib("text_encoder", part, plain) - gib("text_encoder", part, small)) * 2**30
    # A layer of those that are small is made wide again; the table of words is not.
    assert saved == pytest.approx((part.whole - part.exact) - 2 * part.widest)
    assert part.widest < part.layer


def test_nf4_text_encoders_cannot_wait(tiny):
    with pytest.raises(UnsupportedError, match=r"accel.text_quantization=nf4 cannot be used with accel.offload=group"):
        inspect_model(ModelSpec(source=str(tiny(WAN)), device="cpu", text_quantization="nf4", offload="group"))
