"""Wan's other models as their makers publish them: the bits of the diffusers folder of the same weights, or a sentence."""

import json
import shutil
from functools import cache

import original_names
import pytest
import torch
from engine_cases import LENGTH, OWN, identity
from safetensors.torch import load_file, save_file
from stand_in_hub import stand_in_hub

from prior_engine import Conditioning, Engine, ModelSpec
from prior_engine.errors import ModelSourceError
from prior_engine.models.account import counted
from prior_engine.models.info import inspect_model

# Each is quick, and all of them together take half a minute.
pytestmark = pytest.mark.slow

KINDS = ["wan-i2v", "wan-flf2v", "wan-vace", "wan-t2v-two-experts", "wan-i2v-two-experts", "wan-ti2v"]
WEIGHTS = ("transformer", "transformer_2", "text_encoder", "vae", "image_encoder")
TEXT, VAE = "models_t5_umt5-xxl-enc-bf16.safetensors", "Wan2.1_VAE.safetensors"
CLIP = f"{original_names.CLIP}.safetensors"
ONE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """`folders(kind)` are the diffusers folder and the makers' one."""

    @cache
    def both(kind):
        room = tmp_path_factory.mktemp(kind)
        plain = original_names.as_wan_builds(kind, room / "plain")
        return plain, original_names.save_original(plain, room / "original", kind)

    return both


@pytest.fixture
def copied(folders, tmp_path):
    """`copied(kind)` is a makers' folder that may be harmed."""
    return lambda kind: shutil.copytree(folders(kind)[1], tmp_path / "copied")


def loaded(folder, dtype="float32", **spec):
    engine = Engine(ModelSpec(device="cpu", dtype=dtype, source=str(folder), **spec))
    there = [name for name in WEIGHTS if name in engine.info.components]
    engine._components.need(*there)
    for name in there:
        # As in test_sources: a CPU's kernels round by where in memory a weight begins.
        for parameter in getattr(engine._components.pipe, name).parameters():
            parameter.data = parameter.data.clone()
    return engine, {name: getattr(engine._components.pipe, name) for name in there}


def made(engine, kind):
    """The end of a short run, and its first frame; with it pictures and videos are encoded."""
    asked = identity(kind, prompt="a fox", height=64, width=64)
    told = Conditioning(prompt="a red star", negative_prompt="blurred", guidance=2.0, max_sequence_length=LENGTH)
    *_, last = engine.record(asked, told, OWN)
    return last.latents, next(engine.decode(last))


def settings_of(model):
    said = model.config.to_dict() if hasattr(model.config, "to_dict") else dict(model.config)
    # Where and by which versions it was saved, which no makers' folder tells.
    return {name: value for name, value in said.items() if not name.startswith("_") and "version" not in name}


def index_of(engine):
    # As transformers calls image processors where there is no torchvision.
    classes = {name: kind.removesuffix("Pil") for name, (_, kind) in engine.info.components.items()}
    return classes, {name: value for name, value in engine.info.settings.items() if value}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_makers_own_folder_gives_the_bits_of_the_diffusers_one(kind, dtype, folders):
    (plain, theirs), (original, ours) = (loaded(folder, dtype) for folder in folders(kind))
    assert ours.keys() == theirs.keys()
    for name, model in ours.items():
        found, wanted = model.state_dict(), theirs[name].state_dict()
        assert found.keys() == wanted.keys()
        for weight, tensor in wanted.items():
            assert (found[weight].dtype, found[weight].equal(tensor)) == (tensor.dtype, True), weight
    assert index_of(original) == index_of(plain)
    for frame, wanted in zip(made(original, kind), made(plain, kind), strict=True):
        assert torch.equal(torch.as_tensor(frame), torch.as_tensor(wanted))


@pytest.mark.parametrize("kind", ["wan-t2v", *KINDS])
def test_what_it_says_of_itself_is_what_the_diffusers_folder_says(kind, folders):
    plain, original = (loaded(folder) for folder in folders(kind))
    for name, model in plain[1].items():
        ours, theirs = settings_of(original[1][name]), settings_of(model)
        # Tiny models are told that they see few places; it changes nothing within them, and no makers' file says it.
        ours["rope_max_seq_len"] = theirs["rope_max_seq_len"] = None
        assert ours == theirs
    if "image_processor" in plain[0].info.components:
        made_ready = [one._components.need("image_processor") or one._components.pipe for one, _ in (plain, original)]
        assert made_ready[0].image_processor.to_dict() == made_ready[1].image_processor.to_dict()
    for value in ("family", "size_multiple", "frame_multiple", "scheduler_class", "boundary_ratio", "expand_timesteps"):
        assert getattr(original[0].info, value) == getattr(plain[0].info, value), value
    shift = original[0].info.scheduler_config["flow_shift"]
    assert shift == plain[0].info.scheduler_config["flow_shift"]
    # The text half of the CLIP is not loaded, so the books leave it out.
    ours, theirs = (counted(one[0].info) for one in (original, plain))
    assert {name: held.whole for name, held in ours.items()} == {name: held.whole for name, held in theirs.items()}


def test_text_or_image_to_video_takes_a_picture_too(folders):
    more = {"pipeline": "WanImageToVideoPipeline"}
    ours, theirs = (made(loaded(folder, **more)[0], "wan-ti2v-image") for folder in reversed(folders("wan-ti2v")))
    assert torch.equal(ours[0], theirs[0])
    assert (ours[1] == theirs[1]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_byte_of_any_file_makes_it_another_model(kind, copied):
    folder, spec = copied(kind), {"device": "cpu", "offline": True}
    known = {inspect_model(ModelSpec(source=str(folder), **spec)).fingerprint}
    files = sorted(folder.rglob("*.safetensors"))
    assert len(files) >= 3
    for count, file in enumerate(files, start=2):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        known.add(inspect_model(ModelSpec(source=str(folder), **spec)).fingerprint)
        assert len(known) == count, file


def refused(folder, **spec):
    with pytest.raises(ModelSourceError) as problem:
        inspect_model(ModelSpec(source=str(folder), device="cpu", **spec))
    return str(problem.value)


HIGH, LOW = "high_noise_model", "low_noise_model"
SHARD = "diffusion_pytorch_model-00001-of-00002.safetensors"
NOT_WHOLE = [
    ("wan-i2v", CLIP, "has no 'models_clip_*'; is the download whole?"),
    ("wan-flf2v", ONE, "there is no"),
    ("wan-vace", VAE, "has no 'Wan2.1_VAE*'; is the download whole?"),
    ("wan-ti2v", "Wan2.2_VAE.safetensors", "has no 'Wan2.2_VAE*'; is the download whole?"),
    ("wan-t2v-two-experts", f"{LOW}/config.json", "has no low_noise_model/config.json; is the download whole?"),
    ("wan-t2v-two-experts", f"{HIGH}/config.json", "has no high_noise_model/config.json; is the download whole?"),
    ("wan-i2v-two-experts", f"{LOW}/{SHARD}", f"{SHARD!r} is missing"),
]


@pytest.mark.parametrize(("kind", "name", "said"), NOT_WHOLE)
def test_a_folder_that_is_not_whole_is_told(kind, name, said, copied):
    folder = copied(kind)
    (folder / name).unlink()
    assert said in refused(folder)


PICKLED = [("wan-i2v", CLIP), ("wan-ti2v", "Wan2.2_VAE.safetensors"), ("wan-vace", VAE), ("wan-t2v-two-experts", TEXT)]


@pytest.mark.parametrize(("kind", "name"), PICKLED)
def test_a_pickle_is_never_opened_but_told_how_to_convert(kind, name, copied, folders):
    from prior_engine.loaded.convert import convert

    folder = copied(kind)
    file = folder / name
    torch.save(load_file(file), file.with_suffix(".pth"))
    file.unlink()
    assert refused(folder).endswith(f"headstart models convert {file.with_suffix('.pth')}")
    convert(file.with_suffix(".pth"))
    spec = {"device": "cpu", "dtype": "float32"}
    assert inspect_model(ModelSpec(source=str(folder), **spec)).components
    ours, theirs = loaded(folder)[1], loaded(folders(kind)[1])[1]
    for part in ours:
        assert all(tensor.equal(theirs[part].state_dict()[at]) for at, tensor in ours[part].state_dict().items())


def _transformer_of(kind, folders, place):
    """Put the transformer of another kind there."""
    other = folders(kind)[1]
    source = other / ONE if (other / ONE).exists() else None
    weights = load_file(source) if source else {}
    for shard in () if source else (other / HIGH).glob("*.safetensors"):
        weights |= load_file(shard)
    for file in place.glob("diffusion_pytorch_model*.safetensors"):
        file.unlink()
    save_file(weights, place / ONE)


OTHER_BUILDS = [
    ("wan-i2v", "", "wan-i2v-two-experts", "the model wants one of", "with a picture embedding"),
    ("wan-flf2v", "", "wan-i2v", "the model wants one of", "with a two-picture embedding"),
    ("wan-vace", "", "wan-t2v-two-experts", "the model wants one of", "2 control blocks"),
    ("wan-t2v-two-experts", LOW, "wan-i2v-two-experts", "model part 'transformer_2'", "36 input channels"),
    ("wan-i2v-two-experts", HIGH, "wan-i2v", "model part 'transformer'", "with a picture embedding"),
    ("wan-ti2v", "", "wan-t2v-two-experts", "48 input channels", "16 input channels"),
]


@pytest.mark.parametrize(("kind", "where", "other", "first", "second"), OTHER_BUILDS)
def test_a_transformer_of_another_build_is_told(kind, where, other, first, second, copied, folders):
    folder = copied(kind)
    _transformer_of(other, folders, folder / where)
    said = refused(folder)
    assert first in said
    assert second in said


def test_another_vae_or_picture_encoder_is_told(copied, folders):
    folder = copied("wan-i2v")
    good = (folder / VAE).read_bytes()
    shutil.copy(folders("wan-ti2v")[1] / "Wan2.2_VAE.safetensors", folder / VAE)
    assert "12 channels in and 48 latent ones, and Wan 2.1's has 3 and 16" in refused(folder)
    (folder / VAE).write_bytes(good)
    shutil.copy(folder / TEXT, folder / CLIP)
    assert "holds no CLIP in open-clip's naming" in refused(folder)
    save_file(
        {name: tensor for name, tensor in load_file(folders("wan-i2v")[1] / CLIP).items() if "visual" not in name},
        folder / CLIP,
    )
    assert "holds no CLIP in open-clip's naming" in refused(folder)


def test_wan_2_2_needs_its_own_vae(copied, folders):
    folder = copied("wan-ti2v")
    shutil.copy(folders("wan-vace")[1] / VAE, folder / "Wan2.2_VAE.safetensors")
    assert "3 channels in and 16 latent ones, and Wan 2.2's has 12 and 48" in refused(folder)


SAID = [
    ("wan-i2v", {"model_type": "s2v"}, "the type 's2v'"),
    ("wan-i2v", {"model_type": ["i2v"]}, "the type \"['i2v']\""),
    ("wan-i2v", {"_class_name": "WanAnimateModel"}, "class 'WanAnimateModel'"),
    ("wan-i2v", {"_class_name": "WanModel_S2V"}, "class 'WanModel_S2V'"),
    ("wan-i2v", {"model_type": "t2v"}, "with a picture embedding"),
    ("wan-i2v", {"num_heads": None}, "config.json has no whole number 'num_heads'"),
    ("wan-i2v", {"dim": "wide"}, "config.json has no whole number 'dim'"),
    ("wan-i2v", {"num_heads": 5}, "a width of 24 cannot be shared among 5 heads"),
    ("wan-i2v", {"add_ref_conv": True}, "config.json says add_ref_conv=True"),
    ("wan-vace", {"vace_layers": None}, "config.json has no list of numbers 'vace_layers'"),
    ("wan-vace", {"vace_layers": [0]}, "1 control blocks"),
]


@pytest.mark.parametrize(("kind", "change", "said"), SAID)
def test_a_config_that_is_not_read_is_told(kind, change, said, copied):
    folder = copied(kind)
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    assert said in refused(folder)


@pytest.mark.parametrize("change", [{"model_type": "i2v"}, {"model_type": "vace"}])
def test_two_experts_that_do_not_belong_together_are_told(change, copied):
    folder = copied("wan-t2v-two-experts")
    config = folder / LOW / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    assert "low_noise_model is of the type" in refused(folder)


def test_a_type_that_only_comes_alone_is_told_of_two_experts(copied):
    folder = copied("wan-t2v-two-experts")
    for expert in (HIGH, LOW):
        config = folder / expert / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "ti2v"}))
    assert "two experts of the type 'ti2v'" in refused(folder)


def test_a_part_from_elsewhere_takes_the_place_of_what_is_missing(copied, folders):
    """Such as a text encoder that many folders share, and a CLIP in diffusers layout."""
    plain, original = folders("wan-i2v")
    folder = copied("wan-i2v")
    for name in (TEXT, CLIP, VAE):
        (folder / name).unlink()
    parts = (
        ("text_encoder", (str(original / TEXT),)),
        ("image_encoder", (str(plain / "image_encoder"),)),
        ("vae", (str(next((plain / "vae").glob("*.safetensors"))),)),
    )
    ours, theirs = made(loaded(folder, parts=parts)[0], "wan-i2v"), made(loaded(original)[0], "wan-i2v")
    assert torch.equal(ours[0], theirs[0])
    assert (ours[1] == theirs[1]).all()


def test_a_picture_encoder_of_the_makers_over_a_diffusers_folder(folders, caplog):
    plain, original = folders("wan-i2v")
    ours = made(loaded(plain, parts=(("image_encoder", (str(original / CLIP),)),))[0], "wan-i2v")
    assert torch.equal(ours[0], made(loaded(plain)[0], "wan-i2v")[0])
    assert "left out" not in caplog.text


def test_two_experts_of_the_makers_come_from_a_hub(folders, tmp_path, monkeypatch):
    _, original = folders("wan-t2v-two-experts")
    files = {str(path.relative_to(original)): path.read_bytes() for path in original.rglob("*") if path.is_file()}
    with stand_in_hub({"Wan-AI/Wan2.2-T2V-A14B": files}, monkeypatch, tmp_path / "cache") as fetched:
        ours = loaded("Wan-AI/Wan2.2-T2V-A14B", offline=False)[1]
        # Both configs are the same bytes, and a hub's client fetches such a file once or twice.
        assert sum(name.startswith(LOW) and name.endswith(".safetensors") for name in fetched) == 2
    theirs = loaded(original)[1]
    for name, model in theirs.items():
        assert all(ours[name].state_dict()[at].equal(tensor) for at, tensor in model.state_dict().items())


def test_a_folder_may_have_any_name(folders, tmp_path):
    _, original = folders("wan-i2v")
    named = shutil.copytree(original, tmp_path / "wan [480p] *")
    assert inspect_model(ModelSpec(source=str(named), device="cpu")).has_image_encoder
