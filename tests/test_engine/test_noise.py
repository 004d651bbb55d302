"""The order in which noise is drawn: as diffusers does it, or time before channels, as FastVideo does it."""

from dataclasses import replace

import pytest
import torch
from engine_cases import identity, told

from prior_engine import ResumeOptions, RunOptions, Schedule
from prior_engine.errors import PinMismatchError, RequestError, UnsupportedError
from prior_engine.requests.steps import Keep

PLAIN = Schedule(num_inference_steps=5)
BY_TIME = replace(PLAIN, noise_layout="btchw")
# Draws noise anew after each step.
LCM = replace(PLAIN, scheduler="FlowMatchLCMScheduler")
LCM_BY_TIME = replace(LCM, noise_layout="btchw")


def by_time(shape, generator):
    """Noise for latents of batch, channels, time, height, width."""
    batch, channels, time, height, width = shape
    return torch.randn(batch, time, channels, height, width, generator=generator).permute(0, 2, 1, 3, 4)


@pytest.fixture
def first_seen(engine):
    """What the transformer is given at the first step of a run, and what the scheduler draws for the steps after it."""

    def seen(kind, run):
        model, given = engine(kind)._components.pipe.transformer, []
        hook = model.register_forward_pre_hook(
            lambda _, args, kwargs: given.append(kwargs["hidden_states"].clone()), with_kwargs=True
        )
        try:
            run()
        finally:
            hook.remove()
        return given[0]

    return seen


@pytest.mark.parametrize("kind", ["wan-t2v", "hunyuan-video"])
def test_the_first_noise_is_the_one_drawn_by_hand(kind, engine, first_seen):
    one, asked = engine(kind), (identity(kind), told(kind))
    one.scratch(*asked, PLAIN)
    first = first_seen(kind, lambda: one.scratch(*asked, BY_TIME))
    generator = torch.Generator("cpu").manual_seed(7)
    assert torch.equal(first, by_time(first.shape, generator))
    plain = first_seen(kind, lambda: one.scratch(*asked, PLAIN))
    assert torch.equal(plain, torch.randn(plain.shape, generator=torch.Generator("cpu").manual_seed(7)))
    assert not torch.equal(plain, first)


def test_what_is_drawn_after_each_step_has_the_same_layout(engine):
    one = engine("wan-t2v")
    asked = identity("wan-t2v"), told("wan-t2v", guidance=1.0)
    made = one.scratch(*asked, LCM_BY_TIME).latents
    embeds = one.encode([asked[1]])[asked[1].texts].prompt["prompt_embeds"]
    generator = torch.Generator("cpu").manual_seed(7)
    x = by_time(made.latents.shape, generator)
    for sigma, after in zip(made.sigmas[:-1], made.sigmas[1:], strict=True):
        with torch.no_grad():
            time = torch.tensor([1000 * sigma])
            clean = x - sigma * one._components.pipe.transformer(x, time, embeds, return_dict=False)[0]
        x = clean if after == 0 else (1 - after) * clean + after * by_time(x.shape, generator)
    torch.testing.assert_close(made.latents, x, atol=5e-6, rtol=0)


@pytest.mark.parametrize("schedule", [BY_TIME, LCM_BY_TIME])
def test_a_resumed_run_ends_in_the_same_bits(schedule, engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), schedule)
    prior = list(one.record(*asked))
    for snapshot in prior[:-1]:
        assert torch.equal(one.resume(snapshot, *asked).latents.latents, prior[-1].latents)
    # A run that broke off goes on with it.
    *_, last = one.record(*asked, after=prior[1])
    assert torch.equal(last.latents, prior[-1].latents)


def test_the_straight_line_leads_to_the_noise_that_the_prior_began_with(engine, first_seen):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), BY_TIME)
    (last,) = one.record(*asked, options=RunOptions(keep=Keep([4])))
    start = first_seen("wan-t2v", lambda: one.resume(last, *asked, how=ResumeOptions(line=1, tail=2)))
    noise = by_time(last.latents.shape, torch.Generator("cpu").manual_seed(7))
    assert torch.equal(start, torch.lerp(last.latents.float(), noise, last.sigmas[2]))


def test_each_sample_of_a_batch_draws_its_own(engine):
    one = engine("wan-t2v")
    asked = identity("wan-t2v"), LCM_BY_TIME
    prior = list(one.record(asked[0], told("wan-t2v"), asked[1]))
    alone = one.resume(prior[1], asked[0], told("wan-t2v", prompt="a blue cube"), asked[1])
    both = one.resume_batch(prior[1], asked[0], [told("wan-t2v"), told("wan-t2v", prompt="a blue cube")], asked[1])
    torch.testing.assert_close(both[1].latents.latents, alone.latents.latents, atol=1e-4, rtol=0)


def test_it_is_told_where_it_is_used_alone_and_must_match(engine):
    assert "noise_layout" not in PLAIN.describe()
    assert BY_TIME.describe() == PLAIN.describe() | {"noise_layout": "btchw"}
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"))
    assert "schedule.noise_layout" not in one.pins(*asked, PLAIN)
    prior = list(one.record(*asked, BY_TIME))
    with pytest.raises(PinMismatchError, match="schedule.noise_layout"):
        one.resume(prior[1], *asked, PLAIN)
    with pytest.raises(RequestError, match=r"noise_layout='tbchw' is not known; choose one of \['bcthw', 'btchw'\]"):
        Schedule(noise_layout="tbchw")


@pytest.mark.parametrize(
    ("kind", "why"), [("flux", "it makes pictures"), ("cogvideox", "its latents"), ("ltx", "its latents")]
)
def test_families_that_it_does_not_fit_refuse_it(kind, why, engine):
    with pytest.raises(UnsupportedError, match=f"noise_layout='btchw' cannot be used with '{kind}': {why}"):
        engine(kind).scratch(identity(kind), told(kind), BY_TIME)
