"""The window passes for the scheduler that it wraps, and shows only what is left of it."""

import copy
import inspect

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchLCMScheduler, UniPCMultistepScheduler

from prior_engine.errors import UnsupportedError
from prior_engine.runs.solvers.solver import Grid
from prior_engine.runs.solvers.window import Window


@pytest.fixture
def euler():
    return FlowMatchEulerDiscreteScheduler(shift=5.0)


def test_it_passes_for_its_scheduler(euler):
    window = Window(euler)
    assert isinstance(window, FlowMatchEulerDiscreteScheduler)
    assert window.config is euler.config
    assert (window.order, len(window)) == (euler.order, len(euler))
    for name in ("set_timesteps", "step"):
        theirs, ours = getattr(euler, name), getattr(window, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    with pytest.raises(TypeError, match="a window cannot change its class"):
        window.__class__ = UniPCMultistepScheduler


def test_it_shows_what_is_left_while_the_scheduler_keeps_the_whole(euler):
    window = Window(euler, start=4)
    window.set_timesteps(10)
    assert len(window.timesteps) == 6
    assert len(window.sigmas) == 7
    assert len(euler.timesteps) == 10
    assert window.timesteps[0] == euler.timesteps[4]
    assert euler.begin_index == 4
    window.set_begin_index(1)
    assert euler.begin_index == 5


def test_an_empty_window_shows_no_step(euler):
    window = Window(euler, stop=0)
    window.set_timesteps(10)
    assert len(window.timesteps) == 0


def test_it_steps_where_the_whole_schedule_would(euler):
    whole = FlowMatchEulerDiscreteScheduler(shift=5.0)
    whole.set_timesteps(6)
    x = torch.randn(2, 3)
    states = [x]
    for t in whole.timesteps:
        states.append(whole.step(torch.ones_like(x), t, states[-1], return_dict=False)[0])
    window = Window(euler, start=3)
    window.set_timesteps(6)
    y = states[3]
    for t in window.timesteps:
        y = window.step(torch.ones_like(x), t, y, return_dict=False)[0]
    assert torch.equal(y, states[-1])


def test_a_window_is_one_walk_and_no_two(euler):
    with pytest.raises(UnsupportedError, match="walk two streams at once"):
        copy.deepcopy(Window(euler))


def test_the_samples_own_generator_is_handed_to_the_step():
    made = []
    for _ in range(2):
        window = Window(FlowMatchLCMScheduler(), generators=[torch.Generator().manual_seed(3)])
        window.set_timesteps(4)
        made.append(window.step(torch.ones(2, 2), window.timesteps[0], torch.ones(2, 2), return_dict=False)[0])
    assert torch.equal(*made)


def test_an_explicit_generator_wins_over_the_windows():
    window = Window(FlowMatchLCMScheduler(), generators=[torch.Generator().manual_seed(3)])
    window.set_timesteps(4)
    theirs = torch.Generator().manual_seed(9)
    before = theirs.get_state()
    window.step(torch.ones(2, 2), window.timesteps[0], torch.ones(2, 2), generator=theirs, return_dict=False)
    assert not torch.equal(theirs.get_state(), before)


def test_strides_are_written_for_ddim_and_uneven_ones_refused():
    from diffusers import CogVideoXDDIMScheduler

    scheduler = CogVideoXDDIMScheduler()
    scheduler.set_timesteps(10)
    Grid(sigmas=(), timesteps=(599.0, 399.0, 199.0)).write_over(scheduler)
    assert scheduler.timesteps.tolist() == [599, 399, 199]
    assert scheduler.config.num_train_timesteps // scheduler.num_inference_steps == 200
    with pytest.raises(ValueError, match="are not evenly spaced"):
        Grid(sigmas=(), timesteps=(599.0, 300.0, 199.0)).write_over(scheduler)


@pytest.mark.parametrize(("first", "count"), [(999, 3), (449, 2), (449, 1), (7, 8), (333, 7)])
def test_ddim_tails_end_below_zero_and_not_before(first, count):
    from prior_engine.runs.tail import strided

    times = strided(first, count)
    assert (times[0], len(times)) == (first, count)
    stride = times[0] - times[1] if count > 1 else first + 1
    assert times[-1] >= 0 > times[-1] - stride


def test_more_steps_than_timesteps_are_refused():
    from prior_engine.runs.tail import strided

    with pytest.raises(ValueError, match="tail=9 has more steps than the 8 timesteps that are left"):
        strided(7, 9)
