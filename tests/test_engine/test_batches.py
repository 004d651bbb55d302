"""Several variants in one forward: their bits depend on the batch size and on nothing else."""

import pytest
import torch
from engine_cases import OWN, identity, told

from prior_engine import Keep, RunOptions, Schedule
from prior_engine.errors import RequestError

PROMPTS = ("a red cube", "a blue ball", "a green cone", "a white ring")
SCHEDULES = {
    "euler": Schedule(num_inference_steps=5),
    "unipc": Schedule(scheduler="UniPCMultistepScheduler", num_inference_steps=5),
    "lcm": Schedule(scheduler="FlowMatchLCMScheduler", num_inference_steps=5),
}


@pytest.fixture(scope="module")
def prior(engine):
    return {
        name: list(engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), schedule))[2]
        for name, schedule in SCHEDULES.items()
    }


@pytest.fixture
def run(engine, prior):
    def resume(name, prompts, **more):
        asked = [told("wan-t2v", prompt) for prompt in prompts]
        return engine("wan-t2v").resume_batch(prior[name], identity("wan-t2v"), asked, SCHEDULES[name], **more)

    return resume


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_result_depends_neither_on_its_place_nor_on_its_companions(name, run):
    first = {p: one.latents.latents for p, one in zip(PROMPTS, run(name, PROMPTS, batch_size=4), strict=True)}
    turned = PROMPTS[2:] + PROMPTS[:2]
    for prompt, one in zip(turned, run(name, turned, batch_size=4), strict=True):
        assert torch.equal(one.latents.latents, first[prompt])
    for prompt in PROMPTS:  # padded with itself
        (alone,) = run(name, [prompt], batch_size=4)
        assert torch.equal(alone.latents.latents, first[prompt])
    assert len({tuple(one.flatten().tolist()) for one in first.values()}) == 4


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_batch_of_variants_is_close_to_one_by_one(name, run):
    together = run(name, PROMPTS, batch_size=4)
    for prompt, one in zip(PROMPTS, together, strict=True):
        (alone,) = run(name, [prompt], batch_size=1)
        torch.testing.assert_close(one.latents.latents, alone.latents.latents, atol=2e-5, rtol=0)
        assert one.latents.latents.shape == alone.latents.latents.shape
        assert (one.batch_size, one.latents.batch_size, alone.batch_size) == (4, 4, 1)


def test_a_picture_conditions_every_sample_of_a_batch(engine):
    one = engine("wan-i2v")
    prior = list(one.record(identity("wan-i2v"), told("wan-i2v"), OWN))[2]
    asked = [told("wan-i2v", prompt) for prompt in PROMPTS[:3]]
    together = one.resume_batch(prior, identity("wan-i2v"), asked, OWN, batch_size=3)
    for told_one, made in zip(asked, together, strict=True):
        alone = one.resume(prior, identity("wan-i2v"), told_one, OWN)
        torch.testing.assert_close(made.latents.latents, alone.latents.latents, atol=2e-5, rtol=0)


def test_a_sample_of_a_batch_can_be_resumed_like_a_prior(engine, run):
    made = run("unipc", PROMPTS[:2], batch_size=2, options=RunOptions(keep=Keep("all")))[1]
    again = engine("wan-t2v").resume(made.kept[0], identity("wan-t2v"), told("wan-t2v", PROMPTS[1]), SCHEDULES["unipc"])
    torch.testing.assert_close(again.latents.latents, made.latents.latents, atol=2e-5, rtol=0)


def test_what_cannot_share_a_batch_is_refused(engine, run, prior):
    with pytest.raises(RequestError, match="3 variants do not fit a batch of 2"):
        run("euler", PROMPTS[:3], batch_size=2)
    mixed = [told("wan-t2v"), told("wan-t2v", guidance=1.0)]
    with pytest.raises(RequestError, match="differ in guidance"):
        engine("wan-t2v").resume_batch(prior["euler"], identity("wan-t2v"), mixed, SCHEDULES["euler"])
    vace = list(engine("wan-vace").record(identity("wan-vace"), told("wan-vace"), OWN))[1]
    with pytest.raises(RequestError, match="its pipeline makes one video at a time; set batch_size=1"):
        engine("wan-vace").resume_batch(vace, identity("wan-vace"), [told("wan-vace")], OWN, batch_size=2)
