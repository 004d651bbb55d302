"""Transformers from GGUF files: the bits of what is in them, told apart, counted, and refused in a sentence."""

import importlib.util
import shutil
import sys

import gguf_files
import numpy as np
import original_names
import pytest
import tiny_models
import torch
from engine_cases import identity, told
from lora_files import named, weights
from safetensors.torch import save_file
from stand_in_hub import stand_in_hub

from flows.compose import compose_settings
from flows.prepare import prepare
from prior_engine import Engine, Lora, ModelSpec, Schedule
from prior_engine.errors import ModelSourceError
from prior_engine.models.account import GIB, counted, gib, phases
from prior_engine.models.account import Size as VideoSize
from prior_engine.models.info import inspect_model
from prior_engine.models.weights import gguf_file
from prior_engine.models.weights.gguf_file import read_gguf
from tasks.errors import PlanError
from tasks.planning.models.check import broken_files

# A quarter of a minute together.
pytestmark = pytest.mark.slow
SCHEDULE = Schedule(num_inference_steps=3)
WAN = "wan-t2v"


@pytest.fixture(scope="module")
def model(tiny):
    return tiny(WAN)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Rows of 256, as k-quants need them."""
    from diffusers import WanPipeline

    folder = tmp_path_factory.mktemp("wide") / WAN
    torch.manual_seed(11)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 128, "ffn_dim": 256, "num_layers": 3}
    transformer = tiny_models._wan_transformer(**sizes)
    pipeline = WanPipeline(
        **tiny_models._text(folder), vae=tiny_models._wan_vae(), transformer=transformer, scheduler=tiny_models._unipc()
    )
    tiny_models._spread(pipeline)
    pipeline.save_pretrained(folder)
    return folder


def spec(model, file, **more):
    return ModelSpec(**{"source": str(model), "device": "cpu", "parts": (("transformer", (str(file),)),), **more})


def run(spec, *loras):
    """All snapshots; weights are laid out alike first, for a CPU's kernels round by where in memory a weight begins."""
    engine = Engine(spec)
    engine._components.need("transformer")
    for parameter in engine._components.pipe.transformer.parameters():
        if parameter.is_floating_point() and spec.offload == "none":
            parameter.data = parameter.data.clone()
    return engine, list(engine.record(identity(WAN), told(WAN, loras=loras), SCHEDULE))


def layers(engine):
    return [type(layer).__name__ for layer in engine._components.pipe.transformer.modules()]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_not_packed_gives_the_bits_of_safetensors_in_its_own_precision(model, tmp_path, kind, dtype):
    file = gguf_files.save_gguf(model, tmp_path / "w.gguf", kind)
    own = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
    held = original_names.component(model, "transformer", original_names.transformer_name)
    rounded = {
        name: tensor.to(own) if tensor.ndim == 2 and name.endswith("weight") else tensor
        for name, tensor in held.items()
    }
    save_file(rounded, tmp_path / "w.safetensors")
    engine, prior = run(spec(model, file, dtype=dtype))
    _, plain = run(spec(model, tmp_path / "w.safetensors", dtype=dtype))
    assert torch.equal(prior[-1].latents, plain[-1].latents)
    assert "GGUFLinear" not in layers(engine)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_packed_weights_give_the_bits_of_the_weights_that_they_stand_for(wide, tmp_path, kind, dtype):
    file = gguf_files.save_gguf(wide, tmp_path / "w.gguf", kind)
    save_file(gguf_files.unpacked(file), tmp_path / "w.safetensors")
    engine, prior = run(spec(wide, file, dtype=dtype))
    _, plain = run(spec(wide, tmp_path / "w.safetensors", dtype=dtype))
    assert torch.equal(prior[-1].latents, plain[-1].latents)
    assert layers(engine).count("GGUFLinear") == 34
    held = engine._components.pipe.transformer.blocks[0].ffn.net[2].weight
    assert (held.dtype, held.numel()) == (torch.uint8, 256 * 256 * (34 if kind == "Q8_0" else 18) // 32)
    for step in (0, 1):
        variant = engine.resume(prior[step], identity(WAN), told(WAN), SCHEDULE)
        assert torch.equal(variant.latents.latents, prior[-1].latents)
    _, whole = run(ModelSpec(source=str(wide), device="cpu", dtype=dtype))
    far = (prior[-1].latents - whole[-1].latents).abs().max() / whole[-1].latents.abs().max()
    assert 0 < far < (0.05 if kind == "Q8_0" else 0.5)


def test_a_kind_that_mixes_blocks_of_256_is_read(wide, tmp_path):
    """The package cannot write one: its bytes are drawn, with scales that are numbers."""
    file = drawn(wide, tmp_path / "w.gguf", "Q4_K")
    save_file(gguf_files.unpacked(file), tmp_path / "w.safetensors")
    _, prior = run(spec(wide, file))
    _, plain = run(spec(wide, tmp_path / "w.safetensors"))
    assert torch.equal(prior[-1].latents, plain[-1].latents)
    assert prior[-1].latents.isfinite().all()


def drawn(model, path, kind):
    import gguf

    number, random = gguf.GGMLQuantizationType[kind], np.random.default_rng(3)
    block, size = gguf.GGML_QUANT_SIZES[number]
    writer = gguf.GGUFWriter(path, "wan")
    for name, tensor in original_names.component(model, "transformer", original_names.transformer_name).items():
        if tensor.ndim != 2 or tensor.shape[1] % block or not name.startswith("blocks."):
            writer.add_tensor(name, tensor.float().numpy())
            continue
        data = random.integers(0, 256, (tensor.numel() // block, size), dtype=np.uint8)
        data[:, :4] = np.array([0.002, 0.01], dtype=np.float16).view(np.uint8)
        writer.add_tensor(name, data.reshape(tensor.shape[0], -1), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_what_has_to_stay_exact_and_what_is_no_linear_layer_is_made_plain(wide, tmp_path):
    file = gguf_files.save_gguf(wide, tmp_path / "w.gguf", "Q8_0", also=("modulation",))
    assert read_gguf(file).weights["blocks.0.modulation"].kind == "Q8_0"
    engine, prior = run(spec(wide, file, dtype="bfloat16"))
    transformer = engine._components.pipe.transformer
    assert transformer.blocks[0].scale_shift_table.dtype == torch.float32
    assert transformer.condition_embedder.time_embedder.linear_2.weight.dtype == torch.float32
    save_file(gguf_files.unpacked(file), tmp_path / "w.safetensors")
    _, plain = run(spec(wide, tmp_path / "w.safetensors", dtype="bfloat16"))
    assert torch.equal(prior[-1].latents, plain[-1].latents)


def test_weights_that_wait_in_main_memory_give_the_same_bits(wide, tmp_path):
    file = gguf_files.save_gguf(wide, tmp_path / "w.gguf")
    assert torch.equal(run(spec(wide, file, offload="group"))[1][-1].latents, run(spec(wide, file))[1][-1].latents)


def test_a_lora_is_worn_over_packed_weights_as_over_plain_ones(model, tmp_path):
    file = gguf_files.save_gguf(model, tmp_path / "w.gguf")
    save_file(gguf_files.unpacked(file), tmp_path / "w.safetensors")
    save_file(named("lightx2v", weights(1)), tmp_path / "lora.safetensors")
    lora = Lora.open(tmp_path / "lora.safetensors", 0.7)
    engine, worn = run(spec(model, file), lora)
    assert "GGUFLinear" in layers(engine)
    assert torch.equal(worn[-1].latents, run(spec(model, tmp_path / "w.safetensors"), lora)[1][-1].latents)
    bare = list(engine.record(identity(WAN), told(WAN), SCHEDULE))
    assert torch.equal(bare[-1].latents, run(spec(model, file))[1][-1].latents)
    assert not torch.equal(bare[-1].latents, worn[-1].latents)


def test_one_expert_of_two_may_be_packed(tiny, tmp_path):
    kind = "wan-t2v-two-experts"
    file = gguf_files.save_gguf(tiny(kind), tmp_path / "low.gguf", part="transformer_2")
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu", parts=(("transformer_2", (str(file),)),)))
    prior = list(engine.record(identity(kind), told(kind), Schedule(num_inference_steps=6)))
    variant = engine.resume(prior[2], identity(kind), told(kind), Schedule(num_inference_steps=6))
    assert torch.equal(variant.latents.latents, prior[-1].latents)


def test_other_files_need_no_package(model, tmp_path, monkeypatch):
    save_file(
        original_names.component(model, "transformer", original_names.transformer_name), tmp_path / "w.safetensors"
    )
    monkeypatch.setitem(sys.modules, "diffusers.quantizers.gguf.utils", None)
    assert run(spec(model, tmp_path / "w.safetensors"))[1]


def test_a_recipe_names_the_bytes_of_the_file(model, tmp_path):
    def described(file):
        return inspect_model(spec(model, file)).describe()

    one = described(gguf_files.save_gguf(model, tmp_path / "one.gguf", "Q8_0"))
    assert described(shutil.copy(tmp_path / "one.gguf", tmp_path / "copied.gguf")) == one
    assert described(gguf_files.save_gguf(model, tmp_path / "two.gguf", "Q4_0")) != one
    assert one != inspect_model(ModelSpec(source=str(model), device="cpu")).describe()


def test_the_books_count_the_bytes_of_the_file_and_the_layer_that_is_made_plain(wide, tmp_path):
    file = gguf_files.save_gguf(wide, tmp_path / "w.gguf", "Q8_0")
    held = read_gguf(file).weights.values()
    packed = sum(weight.size for weight in held if weight.packed)
    plain = sum(np.prod(weight.shape) for weight in held if not weight.packed)
    info = inspect_model(spec(wide, file, dtype="bfloat16"))
    part = counted(info)["transformer"]
    taken = gib("transformer", part, info)
    assert taken * GIB == packed + 2 * plain + max(weight.unpacking for weight in held if weight.packed)
    assert taken < gib("transformer", counted(whole := inspect_model(ModelSpec(source=str(wide), device="cpu", dtype="bfloat16")))["transformer"], whole) + part.packed.layer / GIB  # fmt: skip
    assert gib("transformer", part, info, "group") < taken
    names = [phase.name for phase in phases(info, counted(info), VideoSize(height=32, width=32, frames=9), "group")]
    assert names == ["prompts", "denoising", "decoding"]


def test_the_table_of_kinds_is_that_of_the_libraries():
    import gguf
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES

    assert {kind: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)] for kind in gguf_file.TYPES} == {
        kind: (block, size) for kind, (_, block, size) in gguf_file.TYPES.items()
    }
    assert {int(kind) for kind in SUPPORTED_GGUF_QUANT_TYPES} | {0, 1} == set(gguf_file.TYPES)


def _cut(file, model):
    gguf_files.save_gguf(model, file)
    file.write_bytes(file.read_bytes()[:-9])


def _cut_in_its_header(file, model):
    gguf_files.save_gguf(model, file)
    file.write_bytes(file.read_bytes()[:700])


def _another_build(file, model):
    gguf_files.save_gguf(tiny_models.build("wan-i2v", file.parent / "other"), file)


def _of_a_kind_that_is_not_read(file, model):
    """GGML's number of the kind of the first weight stands behind its name and lengths."""
    gguf_files.save_gguf(model, file)
    data = file.read_bytes()
    at = data.index(b"blocks.0.self_attn.q.weight") + len(b"blocks.0.self_attn.q.weight") + 4 + 16
    file.write_bytes(data[:at] + (16).to_bytes(4, "little") + data[at + 4 :])


WRONG = {
    "cut off": (_cut, "w.gguf' cannot be read: it is cut off; is the download whole?"),
    "cut off early": (_cut_in_its_header, "w.gguf' cannot be read: it is cut off; is the download whole?"),
    "another architecture": (lambda file, model: gguf_files.save_gguf(model, file, architecture="flux"), "says that it is of the architecture 'flux', and 'wan' is needed"),
    "another build": (_another_build, "36 input channels"),
    "none": (lambda file, model: file.write_bytes(b"x" * 40), "cannot be read: it is not a GGUF file; give one"),
    "empty": (lambda file, model: file.write_bytes(b""), "cannot be read: it is not a GGUF file; give one"),
    "too old": (lambda file, model: file.write_bytes(b"GGUF" + (1).to_bytes(4, "little") + b"\0" * 16), "its version of GGUF is not read"),
    "a kind that is not read": (_of_a_kind_that_is_not_read, "is of GGML's type 16, which diffusers does not read; take one of BF16, F16"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_used_is_told_before_anything_is_loaded(what, model, tmp_path):
    make, said = WRONG[what]
    make(tmp_path / "w.gguf", model)
    with pytest.raises(ModelSourceError) as refused:
        inspect_model(spec(model, tmp_path / "w.gguf"))
    assert said in str(refused.value)


def test_a_header_that_lies_is_refused_whatever_it_says(model, tmp_path):
    data = gguf_files.save_gguf(model, tmp_path / "w.gguf").read_bytes()
    random = np.random.default_rng(1)
    for at in random.integers(4, data.index(b"blocks.2"), 200):
        (tmp_path / "w.gguf").write_bytes(data[:at] + random.bytes(8) + data[at + 8 :])
        try:
            inspect_model(spec(model, tmp_path / "w.gguf"))
        except ModelSourceError as refused:
            assert "\n" not in str(refused)  # noqa: PT017


@pytest.mark.parametrize(
    ("part", "said"), [("vae", "not for AutoencoderKLWan"), ("text_encoder", "not for UMT5EncoderModel")]
)
def test_it_is_read_for_transformers_alone(model, tmp_path, part, said):
    file = gguf_files.save_gguf(model, tmp_path / "w.gguf")
    with pytest.raises(ModelSourceError, match=f"which is read for transformers of Wan, {said}"):
        inspect_model(spec(model, file, parts=((part, (str(file),)),)))


def test_two_files_are_refused(model, tmp_path):
    for name in ("w-1", "w-2"):
        gguf_files.save_gguf(model, tmp_path / f"{name}.gguf")
    with pytest.raises(ModelSourceError, match="'w-1.gguf' is one of 2 files, and a GGUF is one; name it alone"):
        inspect_model(spec(model, tmp_path / "w-*.gguf"))


@pytest.fixture
def asked(model, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,a fox runs\n")
    file = gguf_files.save_gguf(model, tmp_path / "w.gguf")
    small = ["model.height=32", "model.width=32", "model.frames=9"]
    return [
        f"sheet={tmp_path / 's.csv'}", f"model={model}", *small, f"store={tmp_path / 'store'}",
        f"model.parts.transformer={file}",
    ]  # fmt: skip


def test_what_is_missing_or_twice_is_told_by_plan_and_doctor(asked, model, monkeypatch):
    def refused(said, *more):
        with pytest.raises(PlanError, match=said):
            prepare([*asked, *more])
        with pytest.raises(PlanError, match=said):
            broken_files(compose_settings([*asked, *more]), str(model))

    assert prepare(asked).plan.variants
    refused("packed already, and accel.quantization=float8_e4m3fn would pack it again", "accel.quantization=float8_e4m3fn")  # fmt: skip
    monkeypatch.setenv("DIFFUSERS_GGUF_CUDA_KERNELS", "true")
    refused("DIFFUSERS_GGUF_CUDA_KERNELS is set, which fetches code from a hub and runs it; unset it")
    plain = importlib.util.find_spec
    monkeypatch.setattr(gguf_file, "find_spec", lambda name: None if name == "gguf" else plain(name))
    refused(r"the package gguf, which is not installed; pip install 'headstart-video\[gguf\]'")


def test_a_budget_never_packs_again(asked):
    with pytest.raises(PlanError, match="with all that saves memory"):
        prepare([*asked, "accel.budget=0.0001"])


def test_a_file_of_a_hub_is_fetched_alone(model, tmp_path, monkeypatch):
    data = gguf_files.save_gguf(model, tmp_path / "w.gguf").read_bytes()
    files = {"wan-Q8_0.gguf": data, "wan-Q4_K_M.gguf": b"another"}
    where = "city96/Wan2.1-T2V-gguf:wan-Q8_0.gguf"
    with stand_in_hub({"city96/Wan2.1-T2V-gguf": files}, monkeypatch, tmp_path / "cache") as fetched:
        _, prior = run(spec(model, where, offline=False))
    assert fetched == ["wan-Q8_0.gguf"]
    assert torch.equal(prior[-1].latents, run(spec(model, tmp_path / "w.gguf"))[1][-1].latents)
