"""Models and parts from ModelScope, by its real client against a stand-in: fetched when allowed, never otherwise."""

import gguf_files
import pytest
import torch
from engine_cases import identity, told
from lora_files import named, weights
from safetensors.torch import save_file
from stand_in_modelscope import stand_in_modelscope

from flows.compose import compose_settings
from flows.prepare import prepare
from prior_engine import Engine, Lora, ModelSpec, Schedule
from prior_engine.errors import ModelSourceError
from prior_engine.models import hub
from prior_engine.models.info import inspect_model
from tasks.errors import PlanError
from tasks.planning.models.worn import worn

WAN, NAMED = "wan-t2v", "modelscope:Wan-AI/Wan2.1-T2V-1.3B-Diffusers"


@pytest.fixture
def files(tiny):
    folder = tiny(WAN)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def site(files, tmp_path, monkeypatch):
    repositories = {NAMED.removeprefix(hub.MODELSCOPE): files}
    with stand_in_modelscope(repositories, monkeypatch, tmp_path / "site") as fetched:
        yield fetched


def end(**spec):
    engine = Engine(ModelSpec(device="cpu", **spec))
    *_, last = engine.record(identity(WAN), told(WAN), Schedule(num_inference_steps=3))
    return last.latents


def test_a_whole_model_is_fetched_once_when_it_is_allowed(site, files, tiny):
    with pytest.raises(
        ModelSourceError, match=f"{NAMED}' cannot be opened: it is not in the local hub cache and offline"
    ):
        end(source=NAMED)
    assert site == []
    assert torch.equal(end(source=NAMED, offline=False), end(source=str(tiny(WAN))))
    assert sorted(site) == sorted(files)
    # What is here is used without the site, and is named by its bytes like any folder.
    assert torch.equal(end(source=NAMED), end(source=str(tiny(WAN))))
    assert (
        inspect_model(ModelSpec(source=NAMED)).fingerprint
        == inspect_model(ModelSpec(source=str(tiny(WAN)))).fingerprint
    )
    assert sorted(site) == sorted(files)


def test_what_changes_there_is_another_model(site, files):
    before = inspect_model(ModelSpec(source=NAMED, offline=False)).fingerprint
    files["scheduler/scheduler_config.json"] = files["scheduler/scheduler_config.json"].replace(b"3.0", b"4.0")
    assert inspect_model(ModelSpec(source=NAMED)).fingerprint == before
    assert inspect_model(ModelSpec(source=NAMED, offline=False)).fingerprint != before


def test_a_pattern_fetches_what_it_names_and_nothing_else(tiny, tmp_path, monkeypatch):
    data = gguf_files.save_gguf(tiny(WAN), tmp_path / "w.gguf").read_bytes()
    repository = {"city96/Wan2.1-T2V-gguf": {"wan-Q8_0.gguf": data, "wan-Q4_0.gguf": b"another", "README.md": b"#"}}
    parts = (("transformer", ("modelscope:city96/Wan2.1-T2V-gguf:wan-Q8_0.gguf",)),)
    with stand_in_modelscope(repository, monkeypatch, tmp_path / "site") as fetched:
        here = end(source=str(tiny(WAN)), parts=parts, offline=False)
        assert fetched == ["wan-Q8_0.gguf"]
        assert torch.equal(here, end(source=str(tiny(WAN)), parts=(("transformer", (str(tmp_path / "w.gguf"),)),)))
        with pytest.raises(
            ModelSourceError, match="'modelscope:city96/Wan2.1-T2V-gguf' has no file 'high/x.gguf' on the hub"
        ):
            end(
                source=str(tiny(WAN)), offline=False,
                parts=(("transformer", ("modelscope:city96/Wan2.1-T2V-gguf:high/x.gguf",)),),
            )  # fmt: skip


@pytest.mark.parametrize("path", ["../../../../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt"])
def test_a_file_that_would_lie_elsewhere_is_refused_and_nothing_fetched(path, site, files, tmp_path):
    """The client itself would write it."""
    files[path] = b"evil"
    with pytest.raises(ModelSourceError, match="which would lie outside its folder; nothing was fetched"):
        inspect_model(ModelSpec(source=NAMED, offline=False))
    assert site == []
    assert not [found for found in tmp_path.rglob("evil*") if found.is_file()]


@pytest.mark.parametrize("more", [{"source": "modelscope:Wan-AI/none"}, {"source": NAMED, "revision": "v9"}])
def test_what_the_site_does_not_have_is_told(site, more):
    with pytest.raises(ModelSourceError, match="the hub did not give it; check the name, the revision and the network"):
        inspect_model(ModelSpec(offline=False, **more))


def test_a_batch_is_planned_with_it_and_a_missing_package_is_told(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,a fox runs\n")
    small = ["model.height=32", "model.width=32", "model.frames=9", "model.offline=false"]
    asked = [f"sheet={tmp_path / 's.csv'}", f"model={NAMED}", *small, f"store={tmp_path / 'store'}"]
    assert compose_settings(asked).model.source == NAMED
    assert prepare(asked).plan.variants
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(
        PlanError, match=r"package modelscope-hub, which is not installed; pip install 'headstart-video\[modelscope\]'"
    ):
        prepare(asked)


def test_a_lora_comes_from_there_with_its_strength(tmp_path, monkeypatch):
    save_file(named("lightx2v", weights(1)), tmp_path / "l.safetensors")
    repository = {
        "someone/loras": {"l.safetensors": (tmp_path / "l.safetensors").read_bytes(), "other.safetensors": b"x"}
    }
    with stand_in_modelscope(repository, monkeypatch, tmp_path / "site") as fetched:
        asked = ["model.loras=modelscope:someone/loras:l.safetensors:0.5", "model.offline=false"]
        (lora,) = worn(compose_settings(asked))
    assert (fetched, lora.weight) == (["l.safetensors"], 0.5)
    assert lora.sha256 == Lora.open(tmp_path / "l.safetensors").sha256


def test_offline_nothing_is_asked_of_the_network(site, monkeypatch):
    """Not even where something is: the client looks for mirrors before it downloads."""
    import socket

    inspect_model(ModelSpec(source=NAMED, offline=False))

    def refuse(*told):
        raise AssertionError(f"asked {told}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert inspect_model(ModelSpec(source=NAMED)).family.name
