"""Weights as people have them on disk: makers' names, shards, parts from elsewhere. The same bits, or a sentence."""

import json
import shutil
from pathlib import Path

import original_names
import pytest
import torch
from safetensors.torch import load_file, save_file
from stand_in_hub import stand_in_hub

from prior_engine import Conditioning, Engine, Identity, ModelSpec, Schedule
from prior_engine.errors import ModelSourceError
from prior_engine.models.info import inspect_model

IDENTITY = Identity(prompt="a fox", height=32, width=32, frames=5, seed=1)
SCHEDULE = Schedule(num_inference_steps=3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A tiny text-to-video model in diffusers layout, with Wan's own shape of VAE and a tokenizer as Wan has it."""
    return original_names.as_wan_builds("wan-t2v", tmp_path_factory.mktemp("plain") / "wan")


@pytest.fixture(scope="module")
def original(plain, tmp_path_factory):
    return original_names.save_original(plain, tmp_path_factory.mktemp("original") / "Wan2.1-T2V")


def made(dtype="float32", **spec):
    """The end of a short run, and the first frame of it.

    A CPU's kernels round by where in memory a weight begins, and mapped files begin theirs where they like. So the weights
    are laid out alike first; on other devices they are copied anyway.
    """
    engine = Engine(ModelSpec(device="cpu", dtype=dtype, **spec))
    for name in ("transformer", "text_encoder", "vae"):
        engine._components.need(name)
        for parameter in getattr(engine._components.pipe, name).parameters():
            parameter.data = parameter.data.clone()
    *_, last = engine.record(IDENTITY, Conditioning(prompt="a red star", guidance=2.0), SCHEDULE)
    return last.latents, next(engine.decode(last))


def same(ours, theirs):
    return torch.equal(ours[0], theirs[0]) and (ours[1] == theirs[1]).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_makers_own_folder_gives_the_bits_of_the_diffusers_one(plain, original, dtype):
    assert same(made(source=str(original), dtype=dtype), made(source=str(plain), dtype=dtype))


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_transformer_of_other_programs_over_a_diffusers_folder(plain, tmp_path, prefix, shards):
    weights = original_names.component(plain, "transformer", original_names.transformer_name)
    original_names.save_shards({prefix + name: tensor for name, tensor in weights.items()}, tmp_path, shards)
    base = shutil.copytree(plain, tmp_path / "base")
    for file in (base / "transformer").glob("*.safetensors"):
        file.unlink()  # the base lends its configs and its other parts
    parts = (("transformer", (str(tmp_path / "diffusion_pytorch_model*.safetensors"),)),)
    assert same(made(source=str(base), parts=parts), made(source=str(plain)))


def test_a_text_encoder_that_many_share_and_a_vae_in_a_file_of_its_own(plain, original, tmp_path):
    base = shutil.copytree(plain, tmp_path / "base")
    for name in ("text_encoder", "vae"):
        for file in (base / name).glob("*.safetensors"):
            file.unlink()
    parts = (("text_encoder", (str(plain / "text_encoder"),)), ("vae", (str(original / "Wan2.1_VAE.safetensors"),)))
    assert same(made(source=str(base), parts=parts), made(source=str(plain)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_files_under_the_names_of_the_libraries_themselves(plain, tmp_path, dtype):
    """As a text encoder for ComfyUI comes, and a component that was saved alone."""
    names = ("text_encoder", "transformer", "vae")
    base = shutil.copytree(plain, tmp_path / "base")
    files = {name: next((base / name).glob("*.safetensors")) for name in names}
    moved = {name: shutil.move(file, tmp_path / f"{name}.safetensors") for name, file in files.items()}
    parts = tuple((name, (str(path),)) for name, path in moved.items())
    assert same(made(source=str(base), dtype=dtype, parts=parts), made(source=str(plain), dtype=dtype))


def test_a_fingerprint_names_what_is_loaded(plain, original, tmp_path):
    def of(**spec):
        info = inspect_model(ModelSpec(device="cpu", **spec))
        return info.fingerprint, info.text_fingerprint

    file = original / "diffusion_pytorch_model.safetensors"
    moved = Path(shutil.copy(file, tmp_path / "another-name.safetensors"))
    ours = of(source=str(plain), parts=(("transformer", (str(file),)),))
    assert of(source=str(plain), parts=(("transformer", (str(moved),)),)) == ours
    assert ours[0] != of(source=str(plain))[0]
    weights = load_file(moved)
    weights["head.head.bias"] = weights["head.head.bias"] + 1
    save_file(weights, moved)
    changed = of(source=str(plain), parts=(("transformer", (str(moved),)),))
    assert (changed[0] != ours[0], changed[1] == ours[1]) == (True, True)
    copied = shutil.copytree(original, tmp_path / "copied")
    assert of(source=str(copied)) == of(source=str(original))
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"eps": 1e-5}))
    assert of(source=str(copied))[0] != of(source=str(original))[0]


def _no_wan(folder):
    save_file({"layers.0.weight": torch.zeros(2)}, folder / "weights.safetensors")


def _another_build(folder):
    import tiny_models

    other = tiny_models.build("wan-i2v", folder / "other")
    weights = original_names.component(other, "transformer", original_names.transformer_name)
    save_file(weights, folder / "weights.safetensors")


def _cut_off(folder):
    save_file({"patch_embedding.weight": torch.zeros(64)}, folder / "weights.safetensors")
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[:-9])


def _pickled(folder):
    (folder / "weights.safetensors").unlink(missing_ok=True)
    (folder / "weights.pth").write_bytes(b"\x80\x04never opened")


def _scaled(folder):
    save_file({"blocks.0.attn.q.weight": torch.zeros(2), "scaled_fp8": torch.zeros(1)}, folder / "weights.safetensors")


def _shard_gone(folder):
    for path in original_names.save_shards({name: torch.zeros(2) for name in "abc"}, folder, 3, stem="weights")[1:2]:
        path.unlink()


WRONG = {
    "no Wan": (_no_wan, "the files hold no Wan transformer, but names like 'layers.0.weight'; the model wants 4 layers, width 24"),
    "another build": (_another_build, "36 input channels"),
    "cut off": (_cut_off, "weights.safetensors' cannot be read: it is cut off; is the download whole?"),
    "a pickle": (_pickled, "convert it once: headstart models convert"),
    "scaled": (_scaled, "scaled to eight bits (scaled_fp8), which is not read; take the file in bf16"),
    "a shard gone": (_shard_gone, "'weights-00002-of-00003.safetensors' is missing"),
    "nothing": (lambda folder: None, "there is no"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_used_is_told_before_anything_is_loaded(what, plain, tmp_path):
    make, said = WRONG[what]
    make(tmp_path)
    with pytest.raises(ModelSourceError) as refused:
        inspect_model(
            ModelSpec(source=str(plain), device="cpu", parts=(("transformer", (str(tmp_path / "weights*"),)),))
        )
    assert said in str(refused.value)


def test_a_part_that_the_model_has_not_is_told(plain, original):
    file = str(original / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelSourceError, match="has no component 'transformer_3'; it has"):
        inspect_model(ModelSpec(source=str(plain), device="cpu", parts=(("transformer_3", (file,)),)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Wan2.1_VAE.safetensors", "has no 'Wan2.1_VAE*'; is the download whole?"),
        ("diffusion_pytorch_model.safetensors", "there is no"),
        ("google/umt5-xxl/tokenizer_config.json", "is the download whole?"),
    ],
)
def test_a_makers_folder_that_is_not_whole_is_told(original, tmp_path, name, said):
    copied = shutil.copytree(original, tmp_path / "copied")
    (copied / name).unlink()
    with pytest.raises(ModelSourceError) as refused:
        inspect_model(ModelSpec(source=str(copied), device="cpu"))
    assert said in str(refused.value)


def test_as_it_is_published_with_pickles_it_says_what_to_convert_and_then_loads(plain, original, tmp_path):
    from prior_engine.loaded.convert import convert

    copied = shutil.copytree(original, tmp_path / "copied")
    for stem in ("Wan2.1_VAE", "models_t5_umt5-xxl-enc-bf16"):
        torch.save(load_file(copied / f"{stem}.safetensors"), copied / f"{stem}.pth")
        (copied / f"{stem}.safetensors").unlink()
    for stem in ("models_t5_umt5-xxl-enc-bf16", "Wan2.1_VAE"):
        with pytest.raises(ModelSourceError, match=f"headstart models convert .*{stem}.pth"):
            inspect_model(ModelSpec(source=str(copied), device="cpu"))
        convert(copied / f"{stem}.pth")
    assert same(made(source=str(copied)), made(source=str(plain)))


def test_weights_that_the_class_has_no_place_for_are_named(plain, tmp_path, caplog):
    weights = original_names.component(plain, "transformer", original_names.transformer_name)
    weights["blocks.0.self_attn.to_gate_compress.weight"] = torch.zeros(24, 24)
    save_file(weights, tmp_path / "weights.safetensors")
    made(source=str(plain), parts=(("transformer", (str(tmp_path / "weights.safetensors"),)),))
    assert "1 weights were left out, since WanTransformer3DModel has no place for them" in caplog.text
    assert "to_gate_compress" in caplog.text


class TestConvert:
    def test_tensors_come_out_as_they_were(self, tmp_path):
        from prior_engine.loaded.convert import convert

        shared = torch.arange(6.0)
        held = {
            "state_dict": {"a": shared, "b": shared.view(2, 3), "c": torch.ones(2, dtype=torch.bfloat16)},
            "epoch": 3,
        }
        torch.save(held, tmp_path / "w.pt")
        target, count, left = convert(tmp_path / "w.pt")
        assert (target, count, left) == (tmp_path / "w.safetensors", 3, [])
        assert all(torch.equal(tensor, held["state_dict"][name]) for name, tensor in load_file(target).items())
        with pytest.raises(ModelSourceError, match="is there already"):
            convert(tmp_path / "w.pt")

    def test_code_in_a_pickle_is_not_run(self, tmp_path):
        import pickle

        from prior_engine.loaded.convert import convert

        class Harm:
            def __reduce__(self):
                return Path.touch, (tmp_path / "harmed",)

        (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Harm()}))
        with pytest.raises(ModelSourceError, match="holds more than tensors, or is damaged"):
            convert(tmp_path / "w.pth")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pth"]

    @pytest.mark.parametrize(("content", "said"), [([1, 2], "no tensors by name"), ({"a": 1}, "no tensors by name")])
    def test_nothing_to_convert_is_told(self, tmp_path, content, said):
        from prior_engine.loaded.convert import convert

        torch.save(content, tmp_path / "w.bin")
        with pytest.raises(ModelSourceError, match=said):
            convert(tmp_path / "w.bin")
        assert not (tmp_path / "w.safetensors").exists()


@pytest.fixture
def hub(original, tmp_path, monkeypatch):
    """Wan as its makers publish it, on a hub, beside the pickles and pictures that lie there too."""
    files = {str(path.relative_to(original)): path.read_bytes() for path in original.rglob("*") if path.is_file()}
    files |= {"assets/logo.png": b"a picture", "old.pth": b"a pickle"}
    with stand_in_hub({"Wan-AI/Wan2.1-T2V-1.3B": files}, monkeypatch, tmp_path / "cache") as fetched:
        yield fetched


NAMED = "Wan-AI/Wan2.1-T2V-1.3B:diffusion_pytorch_model*.safetensors"


def test_a_pattern_of_a_hub_fetches_what_it_names_and_nothing_else(plain, hub):
    spec = {"source": str(plain), "parts": (("transformer", (NAMED,)),)}
    with pytest.raises(ModelSourceError, match=r"not in the local hub cache and offline is set; download it first"):
        made(**spec)
    assert not hub
    assert same(made(offline=False, **spec), made(source=str(plain)))
    assert hub == ["diffusion_pytorch_model.safetensors"]
    # What is here needs no hub, and is named by its bytes.
    assert same(made(**spec), made(source=str(plain)))
    assert hub == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B:high_noise/*.safetensors", "has no file 'high_noise/.*' on the hub$"),
        ("Wan-AI/Wan2.1-T2V-1.3B:old.pth", "'old.pth' is a pickle, which can run code .*headstart models convert"),
        ("Wan-AI/Wan2.9:x.safetensors", "the hub did not give it; check the name, the revision and the network"),
    ],
)
def test_what_a_hub_does_not_have_is_told(plain, hub, named, said):
    with pytest.raises(ModelSourceError, match=said):
        made(source=str(plain), offline=False, parts=(("transformer", (named,)),))


def test_a_whole_model_of_its_makers_comes_from_a_hub(plain, hub):
    whole = {"source": "Wan-AI/Wan2.1-T2V-1.3B", "offline": False}
    assert same(made(**whole), made(source=str(plain)))
    assert inspect_model(ModelSpec(device="cpu", **whole)).fingerprint
