"""The numbers of the grids, and what of a schedule is refused on construction."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from engine_cases import identity, told
from hypothesis import given
from hypothesis import strategies as st

from prior_engine import ResumeOptions, Schedule, check_start_step, count_steps
from prior_engine.errors import RequestError, StartStepError
from prior_engine.requests.grids import shifted, tail_grid, unshifted, wan_grid

REFERENCE = [1, 0.9783, 0.9524, 0.9211, 0.8824, 0.8333, 0.7692, 0.6818, 0.5556, 0.3571]
LIGHTX2V = Schedule(grid="explicit", sigmas=(1.0, 0.75, 0.5, 0.25), sigma_shift=5.0)
FASTWAN = Schedule(
    scheduler="FlowMatchLCMScheduler",
    grid="explicit",
    sigmas=(1.0, 0.7567567567567568, 0.5217391304347826),
    timesteps=(1000, 757, 522),
    sigma_shift=1.0,
)


def test_the_reference_grid_is_the_published_one():
    assert wan_grid(10, 5.0) == pytest.approx(REFERENCE, abs=5e-5)
    exact = [5 * u / (1 + 4 * u) for u in (1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)]
    assert wan_grid(10, 5.0) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    ("shift", "left"),
    [
        (3, [0.964, 0.923, 0.875, 0.818, 0.750, 0.667, 0.563, 0.429, 0.250]),
        (5, [0.978, 0.952, 0.921, 0.882, 0.833, 0.769, 0.682, 0.556, 0.357]),
        (8, [0.986, 0.970, 0.949, 0.923, 0.889, 0.842, 0.774, 0.667, 0.471]),
        (12, [0.991, 0.980, 0.966, 0.947, 0.923, 0.889, 0.837, 0.750, 0.571]),
    ],
)
def test_sigma_after_each_step_is_the_published_one(shift, left):
    schedule = Schedule(num_inference_steps=10, sigma_shift=shift)
    assert [schedule.sigma_after(step) for step in range(9)] == pytest.approx(left, abs=6e-4)
    assert schedule.sigma_after(9) == 0


def test_strength_is_applied_before_the_shift_and_keeps_all_steps():
    grid = wan_grid(4, 5.0, strength=0.8)
    assert grid == pytest.approx([5 * u / (1 + 4 * u) for u in (0.8, 0.6, 0.4, 0.2)], abs=1e-12)


def recorded(engine, schedule):
    last = list(engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v", guidance=1.0), schedule))[-1]
    return list(last.sigmas), list(last.timesteps)


def test_the_solver_walks_the_reference_grid(engine):
    sigmas, timesteps = recorded(engine, Schedule())
    exact = wan_grid(10, 5.0)
    assert sigmas == pytest.approx([*exact, 0.0], abs=1e-6)
    assert timesteps == pytest.approx([1000 * sigma for sigma in exact], abs=1e-3)


def test_the_lightx2v_grid_is_its_own(engine):
    sigmas, timesteps = recorded(engine, LIGHTX2V)
    assert sigmas == pytest.approx([1, 0.9375, 5 / 6, 0.625, 0], abs=1e-6)
    assert timesteps == pytest.approx([1000, 937.5, 2500 / 3, 625], abs=1e-3)


def test_the_fastwan_grid_is_its_own(engine):
    sigmas, timesteps = recorded(engine, FASTWAN)
    assert sigmas == pytest.approx([1.0, 0.7567567, 0.5217391, 0], abs=1e-6)
    assert timesteps == [1000, 757, 522]


def test_the_written_grid_is_the_one_that_diffusers_makes_of_the_same_sigmas():
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    from prior_engine.runs.solvers.solver import Grid

    base = np.linspace(1, 0, 11)[:-1]  # UniPC fails on a plain list
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 5.0}
    for scheduler in (FlowMatchEulerDiscreteScheduler(shift=5.0), UniPCMultistepScheduler(**flow)):
        scheduler.set_timesteps(sigmas=base)
        theirs = scheduler.sigmas.clone(), scheduler.timesteps.clone()
        scheduler.set_timesteps(10)
        Grid(sigmas=wan_grid(10, 5.0)).write_over(scheduler)
        torch.testing.assert_close(scheduler.sigmas, theirs[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(scheduler.timesteps, theirs[1], atol=1e-3, rtol=0)


def denoiser(engine, kind="wan-t2v"):
    """The tiny transformer told the prompt, as a plain function of latents and timestep."""
    one = engine(kind)
    embeds = one.encode([told(kind)])[told(kind).texts].prompt["prompt_embeds"]

    def velocity(x, t):
        with torch.no_grad():
            model = one._components.pipe.transformer
            return model(x, torch.tensor([float(t)]), embeds, return_dict=False)[0]

    return velocity


def test_the_fastwan_sampler_is_a_hand_written_re_noise_loop(engine):
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v", guidance=1.0), FASTWAN)
    velocity = denoiser(engine)
    generator = torch.Generator("cpu").manual_seed(7)
    x = torch.randn(made.latents.latents.shape, generator=generator)
    sigmas = [1.0, 0.7567567567567568, 0.5217391304347826]
    for t, sigma, after in zip((1000, 757, 522), sigmas, [*sigmas[1:], None], strict=True):
        clean = x - sigma * velocity(x, t)
        x = clean if after is None else (1 - after) * clean + after * torch.randn(x.shape, generator=generator)
    torch.testing.assert_close(made.latents.latents, x, atol=5e-6, rtol=0)


def test_the_lightx2v_sampler_of_2025_draws_its_noise_anew(engine):
    lcm = replace(LIGHTX2V, scheduler="FlowMatchLCMScheduler")
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v", guidance=1.0), lcm)
    velocity = denoiser(engine)
    generator = torch.Generator("cpu").manual_seed(7)
    x = torch.randn(made.latents.latents.shape, generator=generator)
    sigmas = [1, 0.9375, 5 / 6, 0.625]
    for sigma, after in zip(sigmas, [*sigmas[1:], None], strict=True):
        clean = x - sigma * velocity(x, 1000 * sigma)
        x = clean if after is None else (1 - after) * clean + after * torch.randn(x.shape, generator=generator)
    torch.testing.assert_close(made.latents.latents, x, atol=5e-6, rtol=0)


def test_timesteps_that_stand_alone_are_shifted_like_the_sigmas_they_stand_for(engine):
    alone = replace(LIGHTX2V, sigmas=None, timesteps=(1000, 750, 500, 250))
    made, same = (
        engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v", guidance=1.0), schedule).latents
        for schedule in (alone, LIGHTX2V)
    )
    assert (made.timesteps, made.sigmas) == (same.timesteps, same.sigmas)
    assert torch.equal(made.latents, same.latents)
    unshifted = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), replace(alone, sigma_shift=1.0))
    assert unshifted.latents.timesteps == (1000, 750, 500, 250)


def test_the_lightx2v_sampler_is_a_hand_written_euler_loop(engine):
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v", guidance=1.0), LIGHTX2V)
    velocity = denoiser(engine)
    x = torch.randn(made.latents.latents.shape, generator=torch.Generator("cpu").manual_seed(7))
    for sigma, after in zip((1, 0.9375, 5 / 6, 0.625), (0.9375, 5 / 6, 0.625, 0), strict=True):
        x = x + (after - sigma) * velocity(x, 1000 * sigma)
    torch.testing.assert_close(made.latents.latents, x, atol=5e-6, rtol=0)


def test_a_tail_walks_the_noise_that_is_left_by_the_same_law():
    sigma = 5 * 0.3 / (1 + 4 * 0.3)  # what step 6 of 10 leaves at shift 5
    by_hand = [5 * u / (1 + 4 * u) for u in (0.3, 0.15)]
    assert tail_grid(sigma, 2, 5.0) == pytest.approx(by_hand, abs=1e-12)
    assert tail_grid(sigma, 1, 5.0) == (sigma,)


def test_a_tail_of_the_engine_is_the_euler_walk_by_hand(engine):
    one, asked, schedule = engine("wan-t2v"), identity("wan-t2v"), Schedule(num_inference_steps=10)
    prior = list(one.record(asked, told("wan-t2v"), schedule))
    variant = one.resume(prior[6], asked, told("wan-t2v", guidance=1.0), schedule, how=ResumeOptions(tail=2))
    velocity = denoiser(engine)
    x = prior[6].latents
    start, middle = (5 * u / (1 + 4 * u) for u in (0.3, 0.15))
    for sigma, after in ((start, middle), (middle, 0.0)):
        x = x + (after - sigma) * velocity(x, 1000 * sigma)
    torch.testing.assert_close(variant.latents.latents, x, atol=5e-6, rtol=0)
    assert variant.sigma == pytest.approx(start, abs=1e-6)


def test_a_tail_of_as_many_steps_as_are_left_is_not_called_exact(engine):
    one, asked, schedule = engine("wan-t2v"), identity("wan-t2v"), Schedule(num_inference_steps=5)
    prior = list(one.record(asked, told("wan-t2v"), schedule))
    variant = one.resume(prior[2], asked, told("wan-t2v"), schedule, how=ResumeOptions(tail=2))
    assert variant.steps_run == prior[2].steps - 1 - prior[2].step == 2
    assert (variant.tail, variant.history) == ("re-spaced", "fresh")
    assert variant.latents.pins != prior[-1].pins
    assert variant.schedule.describe() != schedule.describe()


@given(st.floats(1e-3, 1), st.floats(0.05, 50))
def test_the_shift_law_has_an_inverse(sigma, shift):
    assert unshifted(shifted(sigma, shift), shift) == pytest.approx(sigma, rel=1e-9)


@given(st.integers(1, 200), st.floats(0.1, 30), st.floats(0.01, 1))
def test_grids_fall_from_at_most_one_to_above_zero(steps, shift, strength):
    grid = wan_grid(steps, shift, strength)
    assert len(grid) == steps
    assert grid[0] <= 1 + 1e-12
    assert grid[-1] > 0
    assert all(now > after for now, after in pairwise(grid))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": "karras"}, r"grid='karras' is not known; choose one of \['diffusers', 'explicit', 'wan'\]"),
        ({"num_inference_steps": 0}, "num_inference_steps=0 must be at least 1"),
        ({"denoising_strength": 0.0}, "denoising_strength=0.0 must be above 0"),
        ({"denoising_strength": 1.2}, "denoising_strength=1.2 must be above 0 and at most 1"),
        ({"sigma_shift": -1.0}, "sigma_shift=-1.0 must be above 0"),
        ({"grid": "explicit"}, "give sigmas or timesteps with grid='explicit'"),
        ({"sigmas": (1.0, 0.5)}, "give sigmas or timesteps with grid='explicit', and with no other grid"),
        ({"grid": "explicit", "sigmas": (0.5, 1.0)}, "must fall"),
        ({"grid": "explicit", "sigmas": (1.0, 0.0)}, "to above 0"),
        ({"grid": "explicit", "sigmas": (1.0, 0.5), "timesteps": (1000,)}, "2 sigmas and 1 timesteps"),
    ],
)
def test_a_schedule_that_cannot_be_right_is_refused(wrong, message):
    with pytest.raises(RequestError, match=message):
        Schedule(**wrong)


@pytest.mark.parametrize(
    ("kind", "schedule", "steps"),
    [
        ("wan-t2v", Schedule(num_inference_steps=5), 5),
        ("wan-t2v", Schedule(scheduler="FlowMatchHeunDiscreteScheduler", num_inference_steps=5), 9),
        ("wan-v2v", Schedule(num_inference_steps=5, denoising_strength=0.5), 5),
        ("wan-v2v", Schedule(num_inference_steps=5, denoising_strength=0.5, grid="diffusers"), 2),
        ("wan-t2v", LIGHTX2V, 4),
    ],
)
def test_steps_are_counted_as_they_are_run(kind, schedule, steps, engine):
    assert count_steps(schedule, engine(kind).info) == steps
    made = engine(kind).scratch(identity(kind), told(kind), schedule)
    assert (made.steps_run, made.latents.steps) == (steps, steps)


def test_explicit_lists_set_the_number_of_steps():
    assert LIGHTX2V.num_inference_steps == 4


@pytest.mark.parametrize("step", [-1, 9, 10])
def test_a_start_step_outside_the_prior_is_refused_with_the_valid_range(step):
    with pytest.raises(StartStepError, match=rf"start step {step} is outside 0\.\.8"):
        check_start_step(step, 10)


def test_every_other_start_step_is_fine():
    for step in range(9):
        check_start_step(step, 10)
    with pytest.raises(StartStepError, match="record one with at least 2"):
        check_start_step(0, 1)
