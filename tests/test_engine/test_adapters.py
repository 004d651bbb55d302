"""LoRA weights of every usual maker: put on for a run, told in its recipe, and gone after it."""

from pathlib import Path

import pytest
import torch
from engine_cases import identity, told
from lora_files import named, weights
from safetensors.torch import save_file

from prior_engine import Engine, Lora, ModelSpec, Schedule
from prior_engine.errors import RequestError

SCHEDULE = Schedule(num_inference_steps=4)


def lora(path, maker="diffusers", seed=0, weight=1.0, expert="both"):
    file = path / f"{maker}-{seed}.safetensors"
    save_file(named(maker, weights(seed)), file)
    return Lora.open(file, weight, expert)


@pytest.fixture(scope="module")
def case(tiny):
    engine = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu"))
    return engine, list(engine.record(identity("wan-t2v"), told("wan-t2v"), SCHEDULE))


@pytest.fixture
def run(case):
    engine, prior = case
    return lambda *loras: (
        engine.resume(prior[0], identity("wan-t2v"), told("wan-t2v", loras=loras), SCHEDULE).latents.latents
    )


def test_every_makers_names_give_the_same_bits(run, tmp_path):
    bare = run()
    made = [run(lora(tmp_path, maker)) for maker in ("diffusers", "lightx2v", "musubi", "diffsynth")]
    assert not torch.equal(made[0], bare)
    for other in made[1:]:
        assert torch.equal(other, made[0])


def test_without_lora_the_bits_are_those_of_the_bare_model(run, case, tmp_path):
    run(lora(tmp_path))
    assert torch.equal(run(), case[1][-1].latents)


def test_weights_scale_and_add_up(run, tmp_path):
    one, other = lora(tmp_path, seed=1), lora(tmp_path, seed=2)
    half = Lora.open(one.path, 0.5)
    both = run(one, other)
    assert not torch.equal(both, run(one))
    assert not torch.equal(both, run(half, other))
    assert torch.equal(run(one, Lora.open(other.path, 0.0)), run(one))


def test_a_file_that_fits_nothing_is_refused_and_the_model_stays_bare(run, case, tmp_path):
    save_file({"text.layer.lora_A.weight": torch.ones(2, 2)}, tmp_path / "odd.safetensors")
    with pytest.raises(RequestError, match=r"no weight of the LoRA file .* fits this model"):
        run(Lora.open(tmp_path / "odd.safetensors"))
    assert torch.equal(run(), case[1][-1].latents)


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        Lora.open(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("not tensors")
    with pytest.raises(RequestError, match="cannot be read: it is not a safetensors file"):
        Lora.open(tmp_path / "text.safetensors")


def test_a_file_that_became_another_is_refused(tmp_path, run):
    planned, other = lora(tmp_path, seed=1), lora(tmp_path, seed=2)
    Path(planned.path).write_bytes(Path(other.path).read_bytes())
    with pytest.raises(
        RequestError, match="is no longer the one that was planned with; put that one back, or plan anew"
    ):
        run(planned)
    Path(planned.path).write_text("not tensors")
    with pytest.raises(RequestError, match="is no longer the one"):
        run(planned)


def test_a_lora_is_told_by_content_and_weight_not_by_path(tmp_path):
    one = lora(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    other = lora(tmp_path / "elsewhere")
    assert one.describe() == other.describe()
    assert one.describe() != Lora.open(one.path, 0.5).describe()
    assert str(tmp_path) not in str(one.describe())


def test_each_expert_can_have_its_own(tiny, tmp_path):
    kind = "wan-t2v-two-experts"
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    schedule = Schedule(num_inference_steps=6)

    def run(*loras):
        return list(engine.record(identity(kind), told(kind, loras=loras), schedule))

    bare, high, low = run(), run(lora(tmp_path, expert="high")), run(lora(tmp_path, expert="low"))
    last_high = max(one.step for one in bare if one.timestep >= 875)
    assert not torch.equal(high[0].latents, bare[0].latents)
    assert torch.equal(low[last_high].latents, bare[last_high].latents)
    assert not torch.equal(low[-1].latents, bare[-1].latents)


def test_an_expert_that_comes_later_wears_it_too(tiny, tmp_path):
    kind, schedule = "wan-t2v-two-experts", Schedule(num_inference_steps=6)
    asked = identity(kind), told(kind, loras=(lora(tmp_path),)), schedule
    prior = list(Engine(ModelSpec(source=str(tiny(kind)), device="cpu")).record(*asked))
    late = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    for step in (4, 0):
        assert torch.equal(late.resume(prior[step], *asked).latents.latents, prior[-1].latents)
