"""Every preset of a model, as its YAML has it: a tiny stand-in of its pipeline is recorded and resumed to the same bits."""

import pytest

from flows.compose import choices, compose_settings
from prior_engine import Conditioning, Engine
from tasks.planning.advice import guidance_of, second_guidance
from tasks.planning.models.source import model_spec
from tests.test_engine import engine_cases

# The stand-in has the same class of pipeline; what a preset is used with is said in its file.
STAND_INS = {
    "wan21-t2v-1.3b": ("wan-t2v", []),
    "wan21-t2v-14b": ("wan-t2v", []),
    "wan21-i2v-14b-480p": ("wan-i2v", ["schedule.sigma_shift=3"]),
    "wan21-i2v-14b-720p": ("wan-i2v", []),
    "wan21-flf2v-14b-720p": ("wan-flf2v", ["schedule.sigma_shift=16"]),
    "wan22-t2v-a14b": ("wan-t2v-two-experts", ["schedule.sigma_shift=12"]),
    "wan22-i2v-a14b": ("wan-i2v-two-experts", []),
    "wan22-ti2v-5b": ("wan-ti2v", []),
    "fastwan21-t2v-1.3b": ("wan-t2v", ["schedule=fastwan-3step"]),
    "fastwan21-t2v-14b": ("wan-t2v", ["schedule=fastwan-3step"]),
    "fastwan22-ti2v-5b": ("wan-ti2v", ["schedule=fastwan-3step"]),
    "ltx-video": ("ltx", ["schedule=diffusers"]),
    "hunyuan-video": ("hunyuan-video", ["schedule.sigma_shift=7"]),
    "cogvideox-5b": ("cogvideox", ["schedule=diffusers", "schedule.scheduler=CogVideoXDDIMScheduler"]),
    "flux-dev": ("flux", ["schedule=diffusers"]),
    "qwen-image": ("qwen-image", ["schedule=diffusers"]),
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


@pytest.mark.parametrize("name", STAND_INS)
def test_recorded_and_resumed_at_two_steps_it_ends_in_the_same_bits(name, stand_in):
    kind, more = STAND_INS[name]
    steps = [] if any("3step" in line for line in more) else ["schedule.num_inference_steps=4"]
    settings = compose_settings([f"model={name}", *more, *steps])
    model, guidance = settings.model, guidance_of(settings, full=True)
    assert not model.offline
    assert model.source.count("/") == 1
    engine = Engine(model_spec(settings, str(stand_in(kind)), device="cpu"))
    assert engine.info.pipeline == model.pipeline
    identity = engine_cases.identity(kind, prompt="a fox")
    told = Conditioning(
        prompt="a fox",
        guidance=guidance,
        guidance_2=second_guidance(settings, guidance),
        max_sequence_length=engine_cases.length(kind),
    )
    schedule = settings.schedule.for_engine
    prior = list(engine.record(identity, told, schedule))
    assert len(prior) == schedule.num_inference_steps
    for step in (0, len(prior) - 2):
        resumed = engine.resume(prior[step], identity, told, schedule)
        assert resumed.latents.latents.equal(prior[-1].latents), step


def test_the_two_experts_of_wan_22_are_told_their_own_guidance(stand_in):
    settings = compose_settings(["model=wan22-t2v-a14b"])
    assert second_guidance(settings, guidance_of(settings)) == 3.0
    # Any other number is meant for both.
    assert second_guidance(settings, 2.0) is None
