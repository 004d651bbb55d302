"""Settings that move weights change no bits; settings that change weights are told in the model's description."""

import logging
import subprocess
import sys

import pytest
import torch
from engine_cases import OWN, identity, told

from prior_engine import Engine, ModelSpec
from prior_engine.errors import RequestError
from prior_engine.loaded.memory import tidy


def made(tiny, kind="wan-t2v", **settings):
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu", **settings))
    return engine, list(engine.record(identity(kind), told(kind), OWN))


@pytest.fixture(scope="module")
def plain(tiny):
    return made(tiny)[1]


def test_group_offload_changes_no_bits(tiny, plain):
    engine, prior = made(tiny, offload="group")
    assert torch.equal(prior[-1].latents, plain[-1].latents)
    variant = engine.resume(prior[2], identity("wan-t2v"), told("wan-t2v"), OWN)
    assert torch.equal(variant.latents.latents, plain[-1].latents)
    assert engine.info.describe() == Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")).info.describe()


@pytest.mark.parametrize("storage", ["float8_e4m3fn", "float8_e5m2"])
def test_smaller_storage_is_exact_on_resume_and_another_model(storage, tiny, plain):
    engine, prior = made(tiny, quantization=storage)
    assert not torch.equal(prior[-1].latents, plain[-1].latents)
    for step in (0, 2, 4):
        variant = engine.resume(prior[step], identity("wan-t2v"), told("wan-t2v"), OWN)
        assert torch.equal(variant.latents.latents, prior[-1].latents)
    assert engine.info.describe()["quantization"] == storage
    weights = {p.dtype for p in engine._components.pipe.transformer.blocks.parameters()}
    assert getattr(torch, storage) in weights


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_a_pinned_attention_backend_is_used_and_told(backend, tiny):
    engine, prior = made(tiny, attention_backend=backend)
    variant = engine.resume(prior[2], identity("wan-t2v"), told("wan-t2v"), OWN)
    assert torch.equal(variant.latents.latents, prior[-1].latents)
    assert engine.info.describe()["attention_backend"] == backend
    assert engine.pins(identity("wan-t2v"), told("wan-t2v"), OWN)["model.attention_backend"] == backend
    processor = engine._components.pipe.transformer.blocks[0].attn1.processor
    assert str(getattr(processor._attention_backend, "value", processor._attention_backend)) == backend


def test_a_pinned_attention_backend_stays_with_its_engine(tiny, plain):
    """diffusers would change what every other model in the process computes with."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry.get_active_backend()[0]
    made(tiny, attention_backend="_native_math")
    assert _AttentionBackendRegistry.get_active_backend()[0] is before
    assert torch.equal(made(tiny)[1][-1].latents, plain[-1].latents)


def test_an_attention_backend_that_cannot_run_here_is_refused(tiny):
    with pytest.raises(RequestError, match="attention_backend='warp' cannot be used here"):
        made(tiny, attention_backend="warp")


@pytest.mark.slow
def test_components_come_when_needed_and_go_when_freed(tiny):
    engine, _ = made(tiny, kind="wan-i2v")
    assert all(engine.has(name) for name in ("text_encoder", "image_encoder", "vae_encoder", "transformer"))
    for name in ("text_encoder", "image_encoder", "vae_encoder", "transformer"):
        engine.free(name)
        assert not engine.has(name)
    tidy()
    variant = engine.scratch(identity("wan-i2v"), told("wan-i2v"), OWN)
    assert variant.latents.is_final
    assert engine.has("transformer")
    assert not engine.has("text_encoder")
    with pytest.raises(
        RequestError, match=r"the component 'scheduler' cannot be freed; choose one of \['image_encoder'"
    ):
        engine.free("scheduler")


@pytest.mark.slow
def test_freed_encoders_come_back_for_something_new(tiny):
    from dataclasses import replace

    from engine_cases import picture

    from prior_engine import Picture

    engine, prior = made(tiny, kind="wan-i2v")
    for name in ("text_encoder", "image_encoder", "vae_encoder"):
        engine.free(name)
    other = replace(identity("wan-i2v"), image=Picture.open(picture(8)))
    again = list(engine.record(other, told("wan-i2v", "something new"), OWN))
    assert engine.has("vae_encoder")
    fresh = Engine(ModelSpec(source=str(tiny("wan-i2v")), device="cpu"))
    expected = list(fresh.record(other, told("wan-i2v", "something new"), OWN))
    assert torch.equal(again[-1].latents, expected[-1].latents)
    assert not torch.equal(again[-1].latents, prior[-1].latents)


def test_one_engine_serves_threads_one_after_the_other(tiny, plain):
    from concurrent.futures import ThreadPoolExecutor

    engine = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu"))

    def run(_):
        return engine.scratch(identity("wan-t2v"), told("wan-t2v"), OWN).latents.latents

    with ThreadPoolExecutor(3) as pool:
        for latents in pool.map(run, range(6)):
            assert torch.equal(latents, plain[-1].latents)


def test_switches_are_put_back_when_the_last_run_ends():
    from prior_engine.loaded.repeatable import repeatable

    first, second = repeatable(wanted=True), repeatable(wanted=True)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.are_deterministic_algorithms_enabled()
    second.__exit__(None, None, None)
    assert not torch.are_deterministic_algorithms_enabled()
    with repeatable(wanted=False):
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.process
def test_a_model_is_loaded_without_a_notice_of_torchvision(tiny):
    code = f"""
from prior_engine import Conditioning, Engine, ModelSpec
Engine(ModelSpec(source={str(tiny("wan-i2v"))!r}, device="cpu")).encode([Conditioning(prompt="x", max_sequence_length=8)])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "torchvision" not in run.stderr


def test_nothing_but_that_notice_is_dropped():
    from prior_engine.loaded.load import without_notices

    chatty, heard = logging.getLogger("transformers.utils.import_utils"), []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    chatty.addHandler(listener)
    notice = "`X` requires torchvision (not installed); falling back to `XPil`"
    try:
        with without_notices():
            chatty.warning(notice)
            chatty.warning("`X` is old")
        chatty.warning(notice)
    finally:
        chatty.removeHandler(listener)
    assert heard == ["`X` is old", notice]
