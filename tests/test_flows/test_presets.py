"""Every preset of a model, as its YAML has it: a tiny stand-in of its pipeline is recorded and resumed to the same bits."""

import pytest

from flows.compose import choices, compose_settings
from prior_engine import Conditioning, Engine
from tasks.planning.advice import guidance_of, second_guidance
from tasks.planning.models.source import model_spec
from tests.test_engine import engine_cases

# The stand-in has the same class of pipeline.
STAND_INS = {
    "wan21-t2v-1.3b": "wan-t2v",
    "wan21-t2v-14b": "wan-t2v",
    "wan21-i2v-14b-480p": "wan-i2v",
    "wan21-i2v-14b-720p": "wan-i2v",
    "wan21-flf2v-14b-720p": "wan-flf2v",
    "wan22-t2v-a14b": "wan-t2v-two-experts",
    "wan22-i2v-a14b": "wan-i2v-two-experts",
    "wan22-ti2v-5b": "wan-ti2v",
    "fastwan21-t2v-1.3b": "wan-t2v",
    "fastwan21-t2v-14b": "wan-t2v",
    "fastwan22-ti2v-5b": "wan-ti2v",
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


@pytest.mark.parametrize("name", STAND_INS)
def test_recorded_and_resumed_at_two_steps_it_ends_in_the_same_bits(name, stand_in):
    kind, brought = STAND_INS[name], compose_settings([f"model={name}"]).schedule
    # The walk that comes with it, shorter where it may be.
    steps = [] if brought.grid == "explicit" else ["schedule.num_inference_steps=4"]
    settings = compose_settings([f"model={name}", *steps])
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
    by_hand = sigmas_by_hand(settings.schedule)
    assert by_hand is None or [snapshot.sigma for snapshot in prior] == pytest.approx([*by_hand[1:], 0.0], abs=1e-6)
    for step in (0, len(prior) - 2):
        resumed = engine.resume(prior[step], identity, told, schedule)
        assert resumed.latents.latents.equal(prior[-1].latents), step


def sigmas_by_hand(schedule):
    """Wan's formula, or the list; the schedulers' own grids are compared with plain pipelines in test_families."""
    if schedule.grid == "diffusers":
        return None
    if schedule.grid == "explicit":
        return schedule.sigmas
    steps, shift = schedule.num_inference_steps, schedule.sigma_shift
    return [shift * u / (1 + (shift - 1) * u) for u in (1 - step / steps for step in range(steps))]


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


def test_the_two_experts_of_wan_22_are_told_their_own_guidance(stand_in):
    settings = compose_settings(["model=wan22-t2v-a14b"])
    assert second_guidance(settings, guidance_of(settings)) == 3.0
    # Any other number is meant for both.
    assert second_guidance(settings, 2.0) is None
