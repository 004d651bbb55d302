"""How a row is walked: what it says itself, what the settings say, what was measured."""

import pytest

from prior_engine.requests.schedule import Schedule
from tasks.planning.advice import Advice
from tasks.planning.ways import Way, default_way, way_of
from tasks.settings import ModelSettings, Settings
from tasks.sheets.rows import Row

DEMO = ModelSettings(start_sigma=0.83, tail=3, start="line")
MEASURED = Advice(
    start_step=2, tail=2, start="line", steps=2, certainty=1.0, start_steps=(2, 2), pays=True, why="it does"
)
NOTHING = Advice(start_step=None, tail=None, steps=None, certainty=0.0, start_steps=None, pays=False, why="no")


def levels_of(steps, shift=5.0):
    """The noise left after each step of Wan's grid."""
    grid = Schedule(num_inference_steps=steps, sigma_shift=shift).sigmas_for()
    return lambda: (*grid[1:], 0.0)


def row(**more):
    return Row(id="a", identity="fox", prompt="a fox runs", base_prompt="a fox", place="s.csv:2", **more)


@pytest.mark.parametrize(
    ("settings", "measured", "way", "source"),
    [
        ({}, None, Way(start_step=6, tail="exact"), "rule of thumb"),
        ({"model": DEMO}, None, Way(start_step=4, tail=3, start="line"), "the model's configuration"),
        ({"model": DEMO}, NOTHING, Way(start_step=4, tail=3, start="line"), "the model's configuration"),
        ({"model": DEMO}, MEASURED, Way(start_step=2, tail=2, start="line"), "measured"),
        ({"model": DEMO, "start": "snapshot"}, None, Way(start_step=4, tail=3), "the model's configuration"),
        ({"model": DEMO, "start_step": 5}, MEASURED, Way(start_step=5, tail="exact"), "the settings"),
        ({"start_step": 5, "tail": 2, "start": "line"}, None, Way(start_step=5, tail=2, start="line"), "the settings"),
        (
            {"model": ModelSettings(start_sigma=0.01)},
            None,
            Way(start_step=8, tail="exact"),
            "the model's configuration",
        ),
    ],
)
def test_the_default_is_what_is_known_best(settings, measured, way, source):
    found, told = default_way(Settings(**settings), 10, measured, levels_of(10))
    assert found == way
    assert source in told


@pytest.mark.parametrize(
    ("named", "settings", "way"),
    [
        ({}, {}, Way(start_step=4, tail=3, start="line")),
        ({"start_step": "auto", "tail": 2}, {}, Way(start_step=4, tail=2, start="line")),
        ({"start_step": 6}, {}, Way(start_step=6, tail="exact")),
        ({"start_step": 6, "tail": 2}, {}, Way(start_step=6, tail=2)),
        ({"start_step": 6}, {"start": "line"}, Way(start_step=6, tail="exact", start="line")),
        ({"start_step": 0}, {"tail": 2}, Way(start_step=0, tail=3)),
    ],
)
def test_a_row_has_the_last_word(named, settings, way):
    default = Way(start_step=4, tail=3, start="line")
    assert way_of(row(**named), Settings(**settings), default) == way


def test_a_start_step_that_the_schedule_has_not_is_refused():
    with pytest.raises(ValueError, match=r"start_step: 99 is past the last step to start from; give 0..8"):
        default_way(Settings(start_step=99), 10, None, levels_of(10))


@pytest.mark.parametrize(("steps", "shift", "step"), [(10, 5, 3), (30, 5, 11), (50, 5, 19), (4, 5, 1), (30, 8, 14)])
def test_a_model_names_its_start_by_the_noise_that_is_left(steps, shift, step):
    """As a step it would be another start on every schedule: the fourth of thirty has hardly begun."""
    settings = Settings(model=ModelSettings(start_sigma=0.882, tail=3, start="line"))
    found, told = default_way(settings, steps, None, levels_of(steps, shift))
    assert found == Way(start_step=step, tail=3, start="line")
    left = levels_of(steps, shift)()
    assert f"sigma 0.882, here {left[step]:.3g}" in told
    assert all(abs(left[step] - 0.882) <= abs(other - 0.882) for other in left)


def test_where_the_noise_is_known_only_when_it_runs_the_rule_of_thumb_is_taken_and_told():
    found, told = default_way(Settings(model=DEMO), 10, None, lambda: None)
    assert found == Way(start_step=6, tail="exact")
    assert told == "a rule of thumb: where sigma is 0.83 on this schedule is known only when it runs"


def test_a_row_names_how_it_starts():
    default = Way(start_step=4, tail=3, start="line")
    assert way_of(row(start="snapshot"), Settings(), default) == Way(start_step=4, tail=3)
    assert way_of(row(start="line", start_step=6, tail=2), Settings(), default) == Way(
        start_step=6, tail=2, start="line"
    )
    assert way_of(row(start="auto"), Settings(start="snapshot"), default) == Way(start_step=4, tail=3)
