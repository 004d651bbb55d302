"""What a model folder says about itself, and what is said when it is none."""

import json
import shutil
import sys

import pytest
from engine_cases import KINDS

from prior_engine import Engine, ModelSpec, inspect_model
from prior_engine.errors import ModelSourceError, RequestError, UnsupportedError
from prior_engine.models.families import REFUSED_PIPELINES
from prior_engine.models.fingerprint import cache_folder, fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_tells_its_family_without_loading_weights(kind, tiny):
    info = inspect_model(ModelSpec(source=str(tiny(kind)), device="cpu"))
    assert kind.startswith(info.family.name) or (kind, info.family.name) in {
        ("wan-ti2v", "wan-t2v"),
        ("wan-ti2v-image", "wan-i2v"),
        ("wan-flf2v", "wan-i2v"),
    }
    assert info.boundary_ratio == {"wan-t2v-two-experts": 0.875, "wan-i2v-two-experts": 0.9}.get(kind)
    assert info.expand_timesteps == kind.startswith("wan-ti2v")
    assert info.has_image_encoder == (kind in ("wan-i2v", "wan-flf2v"))
    # What a recipe keeps of the model can be compared with a model at hand, also after a way through JSON.
    assert json.loads(json.dumps(info.describe())) == info.describe()


@pytest.mark.parametrize(
    ("device", "dtype", "resolved"),
    [
        ("cpu", "auto", "float32"),
        ("cuda", "auto", "bfloat16"),
        ("mps", "auto", "bfloat16"),
        ("cpu", "bfloat16", "bfloat16"),
    ],
)
def test_the_dtype_follows_the_device_unless_it_is_pinned(device, dtype, resolved, tiny):
    assert inspect_model(ModelSpec(source=str(tiny("wan-t2v")), device=device, dtype=dtype)).dtype == resolved


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": " "}, "the model has an empty source"),
        ({"dtype": "int8"}, r"dtype='int8' is not known; choose one of \['auto', 'bfloat16', 'float16', 'float32'\]"),
        ({"offload": "disk"}, "offload='disk' is not known"),
        ({"quantization": "int4"}, "quantization='int4' is not known"),
    ],
)
def test_a_spec_that_cannot_be_right_is_refused(wrong, message):
    with pytest.raises(RequestError, match=message):
        ModelSpec(**{"source": "x", **wrong})


def test_a_source_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(
        ModelSourceError, match=r"holds no model_index\.json; name a folder in diffusers layout, one of Wan"
    ):
        inspect_model(ModelSpec(source=str(tmp_path), device="cpu"))
    with pytest.raises(ModelSourceError, match="holds no model_index"):
        inspect_model(ModelSpec(source="./nowhere", device="cpu"))


def test_a_hub_id_that_is_not_here_is_told_when_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    told = (
        r"^the model 'owner/absent'{} cannot be opened: it is not in the local hub cache and offline is set; "
        r"download it first, or set model\.offline=false$"
    )
    with pytest.raises(ModelSourceError, match=told.format("")):
        inspect_model(ModelSpec(source="owner/absent", device="cpu"))
    with pytest.raises(ModelSourceError, match=told.format(r" \(revision 'v2'\)")):
        inspect_model(ModelSpec(source="owner/absent", revision="v2", device="cpu"))


def test_a_hub_model_is_known_by_its_id_and_commit(tiny, tmp_path, monkeypatch):
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(tiny("wan-t2v"), tmp_path / commit)
    asked = []

    def found(name, revision, local_files_only, allow_patterns):
        asked.append((name, revision, local_files_only, allow_patterns))
        return str(tmp_path / commit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
    info = inspect_model(ModelSpec(source="owner/model", revision="main", device="cpu"))
    assert asked == [("owner/model", "main", True, None)]
    assert info.fingerprint == f"owner/model@{commit}"


def edited(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_broken_download_is_told(tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(ModelSourceError, match=r"the model has no vae/config\.json; is the download whole\?"):
        inspect_model(ModelSpec(source=str(folder), device="cpu"))
    (folder / "vae" / "config.json").write_text("{")
    with pytest.raises(ModelSourceError, match=r"vae/config\.json is not JSON"):
        inspect_model(ModelSpec(source=str(folder), device="cpu"))


def test_weights_that_are_missing_are_told(tiny, tmp_path):
    from engine_cases import OWN, identity, told

    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelSourceError, match="the component 'transformer' cannot be read"):
        Engine(ModelSpec(source=str(folder), device="cpu")).scratch(identity("wan-t2v"), told("wan-t2v"), OWN)


@pytest.mark.parametrize("refused", [one.name for one in REFUSED_PIPELINES])
def test_a_pipeline_that_cannot_be_exact_is_refused_with_the_reason(refused, tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    edited(folder, "model_index.json", _class_name=refused)
    with pytest.raises(UnsupportedError, match=f"the pipeline '{refused}' cannot be resumed exactly: "):
        inspect_model(ModelSpec(source=str(folder), device="cpu"))


def test_an_unknown_pipeline_is_refused_with_the_known_ones(tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    edited(folder, "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(
        UnsupportedError, match=r"'StableDiffusionPipeline' is not supported; choose one of .*'WanPipeline'"
    ):
        inspect_model(ModelSpec(source=str(folder), device="cpu"))


def test_another_pipeline_can_be_put_on_the_same_weights(tiny):
    info = inspect_model(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", pipeline="WanVideoToVideoPipeline"))
    assert info.family.name == "wan-v2v"


def test_the_fingerprint_covers_configs_and_weights_but_not_idle_files(tiny, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    was = fingerprint(folder)
    (folder / "README.md").write_text("words")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x").write_text("idle")
    assert fingerprint(folder) == was
    edited(folder, "scheduler/scheduler_config.json", flow_shift=7.0)
    assert fingerprint(folder) != was


def test_weights_are_hashed_once_and_again_when_they_change(tiny, tmp_path, monkeypatch):
    import hashlib

    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"
    folder = tmp_path / "model"
    shutil.copytree(tiny("wan-t2v"), folder)
    read = []
    plain = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: (read.append(file.name), plain(file, name))[1])
    first = fingerprint(folder)
    many = len(read)
    assert many > 5
    assert fingerprint(folder) == first
    assert len(read) == many
    with (folder / "model_index.json").open("a") as file:
        file.write("\n")
    assert fingerprint(folder) != first
    assert len(read) == many + 1


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tiny, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HEADSTART_CACHE", str(blocked / "below"))
    assert fingerprint(tiny("wan-t2v")) == fingerprint(tiny("wan-t2v"))


@pytest.mark.parametrize(("cuda", "mps", "device"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_best_device_is_found(cuda, mps, device, monkeypatch):
    import torch

    from prior_engine.models import spec as config
    from prior_engine.models.spec import resolve_device

    monkeypatch.setattr(config, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto") == device
    assert resolve_device("cuda:1") == "cuda:1"


def test_a_machine_without_gpu_files_is_known_without_torch(monkeypatch):
    from prior_engine.models import spec as config

    monkeypatch.setitem(sys.modules, "torch", None)  # importing it would now fail
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(config, "_GPU_FILES", ("no-such-device*",))
    assert config.resolve_device("auto") == "cpu"
    monkeypatch.setattr(config, "_GPU_FILES", ("null",))
    with pytest.raises(ImportError):
        config.resolve_device("auto")
