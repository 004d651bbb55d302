"""Every preset of a model, as its YAML has it: a tiny stand-in of its pipeline is recorded and resumed to the same bits.

The stand-ins lie on a hub of this machine's own, under the names and in the formats in which the preset's files are published.
"""

from pathlib import Path

import lora_files
import original_names
import pytest
import safetensors.torch
import torch
from stand_in_hub import stand_in_hub

from flows.compose import choices, compose_settings
from flows.prepare import prepare
from prior_engine import Conditioning, Engine, ModelSpec
from tasks.errors import PlanError
from tasks.planning.advice import guidance_of, second_guidance
from tasks.planning.models.source import model_spec
from tasks.planning.models.worn import worn
from tests.test_engine import engine_cases

# The stand-in has the same class of pipeline.
STAND_INS = {
    "wan21-t2v-1.3b": "wan-t2v",
    "wan21-t2v-14b": "wan-t2v",
    "wan21-i2v-14b-480p": "wan-i2v",
    "wan21-i2v-14b-720p": "wan-i2v",
    "wan21-flf2v-14b-720p": "wan-flf2v",
    "wan21-vace-1.3b": "wan-vace",
    "wan21-vace-14b": "wan-vace",
    "wan22-t2v-a14b": "wan-t2v-two-experts",
    "wan22-i2v-a14b": "wan-i2v-two-experts",
    "wan22-ti2v-5b": "wan-ti2v",
    "fastwan21-t2v-1.3b": "wan-t2v",
    "fastwan21-t2v-14b": "wan-t2v",
    "fastwan22-ti2v-5b": "wan-ti2v",
    "lightx2v-wan21-t2v-14b": "wan-t2v",
    "lightx2v-wan21-t2v-14b-lora": "wan-t2v",
    "lightx2v-wan21-i2v-14b-480p": "wan-i2v",
    "lightx2v-wan21-i2v-14b-480p-lora": "wan-i2v",
    "lightx2v-wan22-i2v-a14b": "wan-i2v-two-experts",
    "ltx-video": "ltx",
    "hunyuan-video": "hunyuan-video",
    "cogvideox-5b": "cogvideox",
    "flux-dev": "flux",
    "qwen-image": "qwen-image",
}
OURS = {"demo", "custom"}


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    import tiny_models

    made = {}

    def build(kind):
        if kind not in made:
            made[kind] = tiny_models.build(kind, tmp_path_factory.mktemp(kind) / kind)
        return made[kind]

    return build


def test_every_preset_has_its_stand_in():
    assert set(STAND_INS) == set(choices("model")) - OURS


def published(model, folder):
    """The hub's files by id: the model itself, and what the preset takes from elsewhere, as its makers name it."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    there = {model.source: files}
    for part, named in model.parts.items():
        weights = original_names.component(folder, part, original_names.transformer_name)
        repository, _, file = named.partition(":")
        there.setdefault(repository, {})[file] = safetensors.torch.save(weights)
        for replaced in (path for path in folder.glob(f"{part}/*.safetensors")):
            del files[str(replaced.relative_to(folder))]
    for lora in model.loras:
        repository, _, file = lora.path.partition(":")
        weights = lora_files.named("lightx2v", lora_files.weights(0))
        there.setdefault(repository, {})[file] = safetensors.torch.save(weights)
    return there


@pytest.mark.slow  # half a minute together
@pytest.mark.parametrize("name", STAND_INS)
def test_recorded_and_resumed_at_two_steps_it_ends_in_the_same_bits(name, stand_in, tmp_path, monkeypatch):
    kind, brought = STAND_INS[name], compose_settings([f"model={name}"]).schedule
    # The walk that comes with it, shorter where it may be.
    steps = [] if brought.grid == "explicit" else ["schedule.num_inference_steps=4"]
    settings = compose_settings([f"model={name}", *steps])
    model, guidance = settings.model, guidance_of(settings, full=True)
    assert not model.offline
    folder = Path(stand_in(kind))
    with stand_in_hub(published(model, folder), monkeypatch, tmp_path / "cache"):
        engine = Engine(model_spec(settings, model.source, device="cpu"))
        assert engine.info.pipeline == model.pipeline
        identity = engine_cases.identity(kind, prompt="a fox")
        told = Conditioning(
            prompt="a fox",
            guidance=guidance,
            guidance_2=second_guidance(settings, guidance),
            loras=worn(settings),
            max_sequence_length=engine_cases.length(kind),
        )
        schedule = settings.schedule.for_engine
        prior = list(engine.record(identity, told, schedule))
        assert len(prior) == schedule.num_inference_steps
        by_hand = sigmas_by_hand(settings.schedule)
        sigmas = [snapshot.sigma for snapshot in prior]
        assert by_hand is None or sigmas == pytest.approx([*by_hand[1:], 0.0], abs=1e-6)
        for step in (0, len(prior) - 2):
            resumed = engine.resume(prior[step], identity, told, schedule)
            assert resumed.latents.latents.equal(prior[-1].latents), step
    # The same weights in a diffusers folder; mapped files begin them elsewhere, and a CPU rounds by that.
    plain = Engine(ModelSpec(source=str(folder), device="cpu", pipeline=model.pipeline))
    ours, theirs = prior[-1].latents, [*plain.record(identity, told, schedule)][-1].latents
    assert torch.allclose(ours, theirs, atol=1e-4)


def sigmas_by_hand(schedule):
    """Wan's formula, or the list; the schedulers' own grids are compared with plain pipelines in test_families."""
    if schedule.grid == "diffusers":
        return None
    steps, shift = schedule.num_inference_steps, schedule.sigma_shift
    even = schedule.sigmas if schedule.grid == "explicit" else [1 - step / steps for step in range(steps)]
    return [shift * u / (1 + (shift - 1) * u) for u in even]


# As the makers' own programs run them: steps and shift.
MAKERS = {
    "wan21-t2v-1.3b": (50, 5.0),
    "wan21-i2v-14b-480p": (40, 3.0),
    "wan21-i2v-14b-720p": (40, 5.0),
    "wan21-flf2v-14b-720p": (50, 16.0),
    "wan22-t2v-a14b": (40, 12.0),
    "fastwan22-ti2v-5b": (3, 1.0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_preset_brings_its_walk_and_another_may_be_asked_for(name):
    ours = compose_settings([f"model={name}"]).schedule
    assert (ours.num_inference_steps, ours.sigma_shift) == MAKERS[name]
    changed = compose_settings([f"model={name}", "schedule.sigma_shift=7"]).schedule
    assert (changed.num_inference_steps, changed.sigma_shift) == (MAKERS[name][0], 7.0)
    # A distillate over a base has its own walk, and nothing of the base's gets into it.
    asked = compose_settings([f"model={name}", "schedule=lightx2v-4step"]).schedule
    assert asked == compose_settings(["schedule=lightx2v-4step"]).schedule


def test_fastwan_alone_draws_its_noise_time_before_channels():
    layouts = {name: compose_settings([f"model={name}"]).schedule.noise_layout for name in STAND_INS}
    assert {name for name, layout in layouts.items() if layout == "btchw"} == {
        name for name in STAND_INS if name.startswith("fastwan")
    }


def test_the_two_experts_of_wan_22_are_told_their_own_guidance(stand_in):
    settings = compose_settings(["model=wan22-t2v-a14b"])
    assert second_guidance(settings, guidance_of(settings)) == 3.0
    # Any other number is meant for both.
    assert second_guidance(settings, 2.0) is None


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["wan21-t2v-1.3b", "lightx2v-wan21-t2v-14b", "lightx2v-wan21-t2v-14b-lora"])
def test_a_preset_is_found_among_downloaded_models(preset, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    model = compose_settings([f"model={preset}"]).model
    shelf = tmp_path / "mine [1]"
    for name, files in published(model, stand_in(STAND_INS[preset])).items():
        for file, content in files.items():
            (shelf / name / file).parent.mkdir(parents=True, exist_ok=True)
            (shelf / name / file).write_bytes(content)
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,a fox runs\n")
    small = ["model.height=32", "model.width=32", "model.frames=5", "model.offline=true"]
    lines = [f"sheet={tmp_path / 's.csv'}", f"store={tmp_path / 'store'}", f"model={preset}", *small]

    def keys(*more):
        return [row.key for row in prepare([*lines, *more]).plan.variants]

    with pytest.raises(PlanError, match="not in the local hub cache"):
        keys()
    with pytest.raises(PlanError, match=f"not in the local hub cache .*; nor is there '{tmp_path}/none/Wan-AI/"):
        keys(f"model.root={tmp_path}/none")
    found = keys(f"model.root='{shelf}'")
    monkeypatch.setenv("HEADSTART_MODELS", str(shelf))
    assert keys() == found
    with pytest.raises(PlanError, match="revision 'abc'"):
        keys("model.revision=abc")  # a folder does not say of which one it is
