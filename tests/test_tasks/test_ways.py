"""How a row is walked: what it says itself, what the settings say, what was measured."""

import pytest

from tasks.planning.advice import Advice
from tasks.planning.ways import Way, default_way, way_of
from tasks.settings import ModelSettings, Settings
from tasks.sheets.rows import Row

DEMO = ModelSettings(start_step=4, tail=3, start="line")
MEASURED = Advice(
    start_step=2, tail=2, start="line", steps=2, certainty=1.0, start_steps=(2, 2), pays=True, why="it does"
)
NOTHING = Advice(start_step=None, tail=None, steps=None, certainty=0.0, start_steps=None, pays=False, why="no")


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
        ({"model": ModelSettings(start_step=30)}, None, Way(start_step=8, tail="exact"), "the model's configuration"),
    ],
)
def test_the_default_is_what_is_known_best(settings, measured, way, source):
    found, told = default_way(Settings(**settings), 10, measured)
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
        default_way(Settings(start_step=99), 10, None)


def test_a_row_names_how_it_starts():
    default = Way(start_step=4, tail=3, start="line")
    assert way_of(row(start="snapshot"), Settings(), default) == Way(start_step=4, tail=3)
    assert way_of(row(start="line", start_step=6, tail=2), Settings(), default) == Way(
        start_step=6, tail=2, start="line"
    )
    assert way_of(row(start="auto"), Settings(start="snapshot"), default) == Way(start_step=4, tail=3)
