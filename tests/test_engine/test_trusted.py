"""A model folder comes from anywhere: nothing in it is run, nothing that it names is imported, and no pickle is opened."""

import json
import pickle
import shutil
import sys

import pytest
import torch
from engine_cases import OWN, identity, told

from flows.prepare import prepare
from prior_engine import Engine, ModelSpec, inspect_model
from prior_engine.errors import ModelSourceError
from tasks.errors import PlanError

INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny("wan-i2v"), tmp_path / "model")


def edited(folder, name, **changes):
    path = folder / name
    was = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(was | changes))


def inspected(folder):
    return inspect_model(ModelSpec(source=str(folder), device="cpu"))


@pytest.fixture
def marker(folder, monkeypatch):
    """A file that is there once the module in the model folder was imported."""
    (folder / "evil.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass UMT5EncoderModel: pass\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    yield folder / "ran"
    sys.modules.pop("evil", None)


CLASSES = [
    ("text_encoder", ["os", "system"]),
    ("text_encoder", ["subprocess", "Popen"]),
    ("text_encoder", ["evil", "UMT5EncoderModel"]),
    ("text_encoder", ["transformers.models.auto", "AutoModel"]),
    ("text_encoder", ["diffusers", "UMT5EncoderModel"]),
    ("text_encoder", ["transformers", "pipeline"]),
    ("text_encoder", ["transformers", "Trainer"]),
    ("text_encoder", ["transformers", "_LazyModule"]),
    ("text_encoder", ["transformers", 7]),
    ("text_encoder", [["transformers"], "UMT5EncoderModel"]),
    ("tokenizer", ["transformers", "UMT5EncoderModel"]),
    ("transformer", ["diffusers", "DiffusionPipeline"]),
    ("vae", ["transformers", "AutoencoderKLWan"]),
    ("vae", ["diffusers", "WanTransformer3DModel"]),
    ("image_processor", ["transformers", "CLIPVisionModel"]),
    ("scheduler", ["evil", "UniPCMultistepScheduler"]),
    ("another", ["evil", "UMT5EncoderModel"]),
    ("../vae", ["diffusers", "AutoencoderKLWan"]),
]


@pytest.mark.parametrize(("name", "value"), CLASSES)
def test_only_classes_that_make_sense_for_a_component_are_taken(name, value, folder, marker):
    edited(folder, "model_index.json", **{name: value})
    with pytest.raises(ModelSourceError, match=f"the component '{name}' is to be a .*only classes of diffusers and"):
        inspected(folder)
    assert not marker.exists()


def test_a_name_that_is_no_model_class_is_not_called(folder):
    """By its name it could be one."""
    edited(folder, "model_index.json", text_encoder=["transformers", "NoSuchModel"])
    with pytest.raises(ModelSourceError, match=r"needs transformers\.NoSuchModel, which is not installed"):
        Engine(ModelSpec(source=str(folder), device="cpu")).scratch(identity("wan-i2v"), told("wan-i2v"), OWN)


@pytest.mark.parametrize(
    ("file", "entry"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.UMT5EncoderModel"}}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
        ("image_processor/preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "evil.Processor"}}),
        ("transformer/config.json", {"auto_map": {"AutoModel": "evil.Transformer"}}),
        ("text_encoder/adapter_config.json", {"base_model_name_or_path": "owner/name"}),
    ],
)
def test_code_and_models_that_a_component_names_are_refused(file, entry, folder, marker):
    edited(folder, file, **entry)
    with pytest.raises(
        ModelSourceError, match=f"{file} names code or another model that is to be loaded with this one"
    ):
        inspected(folder)
    assert not marker.exists()


def test_kernels_of_the_hub_are_refused(folder):
    edited(folder, "text_encoder/config.json", attn_implementation="owner/kernel")
    with pytest.raises(ModelSourceError, match="names code on the hub, attn_implementation='owner/kernel'"):
        inspected(folder)


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was opened')",))


@pytest.mark.parametrize(
    ("component", "was", "name"),
    [
        ("transformer", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.ckpt"),
        ("text_encoder", "model.safetensors", "pytorch_model.bin"),
        ("image_encoder", "model.safetensors", "weights.pt"),
    ],
)
def test_a_component_of_pickles_only_is_refused(component, was, name, folder):
    (folder / component / was).unlink()
    (folder / component / name).write_bytes(pickle.dumps(Evil()))
    said = f"the component '{component}' has its weights in '{name}' only, and pickles are never opened"
    with pytest.raises(ModelSourceError, match=said):
        inspected(folder)


@pytest.mark.parametrize("shard", ["evil.bin", "../evil.safetensors", "/etc/evil.safetensors"])
def test_an_index_names_safetensors_of_its_own_folder(shard, folder):
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").rename(folder / "transformer" / "one.safetensors")
    edited(folder, f"transformer/{INDEX}", metadata={}, weight_map={"a": "one.safetensors", "b": shard})
    with pytest.raises(ModelSourceError, match=f"'transformer' names '{shard}' as its weights; only safetensors files"):
        inspected(folder)
    edited(folder, f"transformer/{INDEX}", weight_map={"a": "one.safetensors"})
    assert inspected(folder).family.name == "wan-i2v"


@pytest.mark.parametrize("named", ["adapter_model.bin", "../model.safetensors"])
def test_a_config_names_safetensors_of_its_own_folder(named, folder):
    edited(folder, "text_encoder/config.json", transformers_weights=named)
    with pytest.raises(
        ModelSourceError, match=f"'text_encoder' names '{named}' as its weights; only safetensors files"
    ):
        inspected(folder)


def test_a_pickle_beside_safetensors_is_left_alone(folder):
    for component, name in (("transformer", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")):
        (folder / component / name).write_bytes(pickle.dumps(Evil()))
    engine = Engine(ModelSpec(source=str(folder), device="cpu"))
    assert torch.isfinite(engine.scratch(identity("wan-i2v"), told("wan-i2v"), OWN).latents.latents).all()


def test_a_snapshot_of_links_is_a_model(folder, tmp_path):
    """As the hub's cache is: each file a link to a blob that is named after its content."""
    plain = inspected(folder)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for number, path in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    assert inspected(folder).describe() == plain.describe()
    engine = Engine(ModelSpec(source=str(folder), device="cpu"))
    assert torch.isfinite(engine.scratch(identity("wan-i2v"), told("wan-i2v"), OWN).latents.latents).all()


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, "7"])
def test_an_index_that_is_no_object_is_told(text, folder):
    (folder / "model_index.json").write_text(text)
    with pytest.raises(ModelSourceError, match=r"model_index\.json is not "):
        inspected(folder)


def test_the_plan_tells_it(folder, tmp_path):
    edited(folder, "model_index.json", vae=["os", "system"])
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,runs\n")
    with pytest.raises(PlanError, match=r"model\.source='.*model': the component 'vae' is to be a 'system' of 'os'; "):
        prepare([f"sheet={tmp_path / 's.csv'}", f"model={folder}", f"store={tmp_path / 'store'}"])
