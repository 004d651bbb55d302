"""A start on the straight line between a prior's last latents and its own first noise."""

from dataclasses import replace

import pytest
import torch
from engine_cases import identity, own_schedule, told

from prior_engine import ResumeOptions, Schedule
from prior_engine.errors import RequestError, StartStepError, UnsupportedError

WAN = Schedule(num_inference_steps=6)
OTHER = "a blue ball"


def recorded(one, kind, schedule=WAN):
    return list(one.record(identity(kind), told(kind), schedule))


def first_noise(shape):
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(identity("wan-t2v").seed))


@pytest.mark.parametrize("tail", ["exact", 2])
@pytest.mark.parametrize("kind", ["wan-t2v", "wan-i2v", "wan-ti2v-image"])
def test_it_is_the_walk_from_the_mixed_latents_bit_for_bit(kind, tail, engine):
    one = engine(kind)
    prior = recorded(one, kind)
    by_hand = replace(
        prior[2],
        latents=torch.lerp(prior[-1].latents, first_noise(prior[-1].latents.shape), prior[2].sigma),
        generators=prior[-1].generators,
    )
    asked = identity(kind), told(kind, OTHER), WAN
    expected = one.resume(by_hand, *asked, how=ResumeOptions(tail=tail, history="fresh"))
    made = one.resume(prior[-1], *asked, how=ResumeOptions(tail=tail, line=2))
    assert torch.equal(made.latents.latents, expected.latents.latents)
    assert not torch.equal(
        made.latents.latents, one.resume(prior[2], *asked, how=ResumeOptions(tail=tail)).latents.latents
    )
    assert (made.sigma, made.steps_run) == (prior[2].sigma, 3 if tail == "exact" else 2)


def test_every_sample_of_a_batch_starts_from_the_same_noise(engine):
    one = engine("wan-t2v")
    last = recorded(one, "wan-t2v")[-1]
    made = one.resume_batch(
        last, identity("wan-t2v"), [told("wan-t2v", OTHER)] * 2, WAN, how=ResumeOptions(line=3, tail=2)
    )
    assert torch.equal(made[0].latents.latents, made[1].latents.latents)
    alone = one.resume(last, identity("wan-t2v"), told("wan-t2v", OTHER), WAN, how=ResumeOptions(line=3, tail=2))
    torch.testing.assert_close(made[0].latents.latents, alone.latents.latents, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["wan-t2v-two-experts", "wan-flf2v", "wan-vace", "ltx", "hunyuan-video", "flux"])
def test_other_families_start_on_it_too(kind, engine):
    one = engine(kind)
    schedule = own_schedule(kind)
    last = recorded(one, kind, schedule)[-1]
    made = one.resume(last, identity(kind), told(kind, OTHER), schedule, how=ResumeOptions(line=3))
    assert made.latents.latents.shape == last.latents.shape
    assert torch.isfinite(made.latents.latents).all()
    assert not torch.equal(made.latents.latents, last.latents)


def test_what_cannot_start_on_it_is_refused(engine):
    one = engine("wan-t2v")
    asked = identity("wan-t2v"), told("wan-t2v", OTHER)
    prior = recorded(one, "wan-t2v")
    with pytest.raises(RequestError, match=r"needs the prior's last snapshot \(step 5\), this is step 2"):
        one.resume(prior[2], *asked, WAN, how=ResumeOptions(line=2))
    with pytest.raises(StartStepError, match=r"start step 5 is outside 0\.\.4"):
        one.resume(prior[-1], *asked, WAN, how=ResumeOptions(line=5))
    heun = Schedule(scheduler="FlowMatchHeunDiscreteScheduler", num_inference_steps=4)
    with pytest.raises(UnsupportedError, match="needs a solver of one evaluation a step, and FlowMatchHeun"):
        one.resume(recorded(one, "wan-t2v", heun)[-1], *asked, heun, how=ResumeOptions(line=2))
    video = engine("wan-v2v")
    last = recorded(video, "wan-v2v", own_schedule("wan-v2v"))[-1]
    with pytest.raises(UnsupportedError, match="does not start from pure noise"):
        video.resume(last, identity("wan-v2v"), told("wan-v2v"), own_schedule("wan-v2v"), how=ResumeOptions(line=2))
