"""The answer that a study draws from its numbers, on numbers whose answer is known."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from tasks.pages.inflection import costs, is_advised, page
from tasks.studies.conclusion import Bar, concluded
from tasks.studies.pair import Trial, trials_of
from tasks.studies.strips import strip

BAR = Bar(follow=0.9, detail=0.8)
TOTAL = 6


def pairs_that_follow_until(latest, *, count=10, detail=1.0, scratch_detail=0.5, changed=0.5):
    """Pairs whose variants follow from start steps up to `latest` and not after it."""
    settings = trials_of(TOTAL, None, ("exact", 2))
    found = {}
    for setting in settings:
        scratch = setting.start_step is None
        follows = scratch or setting.start_step <= latest
        found[setting.name] = {
            "followed": 0.9 if follows else 0.2,
            "first": 0.5 if scratch else 0.85 + 0.02 * setting.start_step,
            "layout": 0.5 if scratch else 0.9,
            "latents": 0.9,
            "detail": [1.0, scratch_detail if scratch else detail],
            "steps": setting.steps,
            "seconds": 0.1 * setting.steps,
        }
    pair = {
        "pair": "fox/runs",
        "identity": "fox",
        "prompt": "a fox runs",
        "changed": changed,
        "detail_full": [1.0, 1.0],
        "kept_full": [0.8, 0.8],
        "seconds_full": 1.0,
        "sigmas": {str(step): 1 - (step + 1) / TOTAL for step in range(TOTAL)},
        "settings": found,
    }
    return [pair] * count, settings


@pytest.mark.parametrize("latest", [0, 2, 3])
def test_the_inflection_is_the_latest_step_that_follows(latest):
    pairs, settings = pairs_that_follow_until(latest)
    record = concluded(pairs, settings, BAR)
    assert record["inflections"]["exact"] == latest
    assert record["inflections"]["2"] == min(latest, 2)  # from k=3 on two steps are no fewer than what is left
    assert record["advice"]["start_step"] is not None
    assert record["advice"]["start_step"] <= latest
    assert record["advice"]["pays"]
    assert record["advice"]["certainty"] == 1


@pytest.mark.parametrize(
    ("name", "value"), [("followed", 1.3), ("detail", [0.7, 1.0]), ("detail", [1.0, 0.7]), ("first", 0.5)]
)
def test_what_overdoes_it_or_loses_something_at_any_scale_is_not_advised(name, value):
    pairs, settings = pairs_that_follow_until(3)
    found = pairs[0]["settings"]
    # Two steps from k=3 would be the advice.
    found["k3 exact"] |= {name: value}
    advice = concluded(pairs, settings, BAR)["advice"]
    assert (advice["steps"], advice["start_step"], advice["tail"]) == (2, 2, 2)
    # A hair less of the prior than a full run keeps (.8) is no reason; more is.
    for kept, steps in ((0.79, 2), (0.77, 3)):
        for step in (0, 1, 2):
            found[f"k{step} in 2"] |= {"first": kept, "layout": kept}
        assert concluded(pairs, settings, BAR)["advice"]["steps"] == steps


def test_the_fewest_steps_win():
    pairs, settings = pairs_that_follow_until(3)
    advice = concluded(pairs, settings, BAR)["advice"]
    # Two steps either way; the later start keeps more of the prior.
    assert (advice["steps"], advice["start_step"], advice["tail"]) == (2, 3, "exact")


def test_nothing_is_advised_where_nothing_follows():
    pairs, settings = pairs_that_follow_until(-1)
    record = concluded(pairs, settings, BAR)
    assert record["advice"]["start_step"] is None
    assert record["inflections"] == {"exact": None, "2": None}
    assert "does not pay" in record["advice"]["why"]


@pytest.mark.parametrize("changed", [0.5, 0.0])
def test_a_study_without_advice_has_its_page(changed):
    pairs, settings = pairs_that_follow_until(-1, changed=changed)
    bare = {"model": {}, "schedule": {"grid": "wan"}, "guidance": 4.0, "full_steps": TOTAL}
    record = {**bare, "bar": {"follow": 0.9, "detail": 0.8}, **concluded(pairs, settings, BAR)}
    text = page(record)
    assert "No start step is recommended." in text
    assert "How sure" not in text


def test_a_prior_that_is_no_better_than_scratch_is_said_not_to_pay():
    pairs, settings = pairs_that_follow_until(3, scratch_detail=1.0)
    for pair in pairs:
        for name, one in pair["settings"].items():
            if name.startswith("scratch"):
                one |= {"first": 0.95, "layout": 0.95}
    advice = concluded(pairs, settings, BAR)["advice"]
    assert not advice["pays"]
    assert "not shown to pay" in advice["why"]


def test_pairs_that_change_nothing_are_left_out_and_named():
    pairs, settings = pairs_that_follow_until(3, changed=0.0)
    record = concluded(pairs, settings, BAR)
    assert record["mute"] == ["fox/runs"] * len(pairs)
    assert record["advice"]["start_step"] is None


def test_what_is_good_by_luck_gives_way_to_what_surely_is():
    most, settings = pairs_that_follow_until(3, count=6)
    few, _ = pairs_that_follow_until(0, count=1)
    advice = concluded([*most, *few], settings, Bar(follow=0.85, detail=0.8))["advice"]
    # Two steps from k=3 keep more and are good in all pairs but one; two from k=0 are good whichever pairs are drawn.
    assert (advice["steps"], advice["start_step"], advice["certainty"]) == (2, 0, 1)
    low, high = advice["start_steps"]
    assert low < high


def test_doubt_shows():
    most, settings = pairs_that_follow_until(3, count=6)
    few, _ = pairs_that_follow_until(-1, count=1)
    advice = concluded([*most, *few], settings, Bar(follow=0.85, detail=0.8))["advice"]
    assert advice["start_step"] is not None
    assert 0.5 < advice["certainty"] < 0.8


def test_the_straight_line_is_tried_with_tails_of_its_own_and_can_win():
    settings = trials_of(TOTAL, (1, 2), ("exact", 2), ("snapshot", "line"))
    assert [setting.name for setting in settings if setting.start_step is not None] == [
        "k1 exact", "k1 in 2", "k1 line in 2", "k2 exact", "k2 in 2", "k2 line in 2",
    ]  # fmt: skip
    pairs, _ = pairs_that_follow_until(3)
    found = pairs[0]["settings"]
    for name in ("k1 line in 2", "k2 line in 2"):
        found[name] = found["k2 in 2"] | {"first": 0.99, "layout": 0.99}
    record = concluded(pairs, settings, BAR)
    assert (record["advice"]["steps"], record["advice"]["start"]) == (2, "line")
    assert record["inflections"]["line 2"] == 2


def test_every_number_of_steps_has_its_control():
    settings = trials_of(10, (3, 6), ("exact", 1, 3, 5))
    assert [setting.name for setting in settings if setting.start_step is not None] == [
        "k3 exact", "k3 in 1", "k3 in 3", "k3 in 5", "k6 exact", "k6 in 1",
    ]  # fmt: skip
    assert Trial(steps=6) in settings
    assert {setting.steps for setting in settings} == {
        setting.steps for setting in settings if setting.start_step is None
    }


def test_less_guidance_is_tried_with_re_spaced_tails_and_can_win():
    settings = trials_of(TOTAL, (1, 2), ("exact", 2), ("snapshot", "line"), (None, 2.5))
    assert [setting.name for setting in settings if setting.start_step == 1] == [
        "k1 exact", "k1 in 2", "k1 in 2 g2.5", "k1 line in 2", "k1 line in 2 g2.5",
    ]  # fmt: skip
    # Where there are exact tails only, they are what it is tried with.
    assert [one.name for one in trials_of(TOTAL, (1,), ("exact",), ("snapshot",), (None, 2.5))][:2] == [
        "k1 exact", "k1 exact g2.5",
    ]  # fmt: skip
    pairs, _ = pairs_that_follow_until(3)
    found = pairs[0]["settings"]
    for setting in settings:
        found.setdefault(setting.name, found["k2 in 2"])
    found["k2 line in 2 g2.5"] = found["k2 in 2"] | {"first": 0.99, "layout": 0.99}
    record = concluded(pairs, settings, BAR)
    advice = record["advice"]
    assert (advice["start_step"], advice["start"], advice["guidance"]) == (2, "line", 2.5)
    assert record["inflections"]["line 2 g2.5"] == 2
    assert [line["name"] for line in record["lines"] if is_advised(record)(line)] == ["k2 line in 2 g2.5"]


def test_the_page_shows_what_it_speaks_of_and_what_it_saves():
    pairs, settings = pairs_that_follow_until(3)
    clip = np.zeros((9, 64, 48, 3), np.float32)
    clip[4] = 1.0
    with Image.open(io.BytesIO(base64.b64decode(strip(clip)))) as opened:
        assert opened.size == (5 * 48, 64)
        assert [opened.getpixel((48 * place + 24, 32)) for place in (0, 2, 4)] == [(0,) * 3, (255,) * 3, (0,) * 3]
    shown = {name: strip(clip) for name in ("prior", "full run", *pairs[0]["settings"])}
    record = concluded([pair | {"looks": shown} for pair in pairs], settings, BAR)
    assert "looks" not in record["pairs"][0]
    bare = {"model": {}, "schedule": {"grid": "wan"}, "guidance": 4.0, "full_steps": TOTAL}
    record |= bare | {"bar": {"follow": 0.9, "detail": 0.8}}
    text = page(record, [pair | {"looks": shown} for pair in pairs])
    # All pairs are of one identity, and one of each is enough to look at.
    assert re.findall(r'alt="(.*) of fox/runs"', text) == ["prior", "k3 exact", "full run", "scratch 2"]
    (here,) = costs(record)
    # Six steps for the prior and two for each row, against six for each row.
    assert here["shares"] == [pytest.approx((6 + 2 * rows) / (6 * rows)) for rows in (2, 5, 20, 100)]
    assert "83 %" in text
