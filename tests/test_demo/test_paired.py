"""What a comparison of two settings claims: bounds of shares that are bounds, and differences of the same clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.fidelity.contest import Contest, Setting
from benchmarks.fidelity.paired import Marks, Real, beside, told, wilson
from demo.model.evaluate import draw_pairs
from demo.model.sample import FOLDERS, wan_grid


def marks(num=60, seed=0, **more):
    rng = np.random.default_rng(seed)
    plain = {name: rng.normal(0.8, 0.1, num) for name in ("face", "outline", "off_course", "jitter", "kept")}
    seen = {"does": rng.random(num) < 0.9, "identity": np.ones(num, bool)}
    return Marks(
        **(plain | seen | {"features": rng.normal(size=(num, 5)), "spectra": rng.normal(size=(num, 6))} | more)
    )


REAL = Real(
    features=np.random.default_rng(9).normal(size=(200, 5)), spectra=np.random.default_rng(8).normal(size=(200, 6))
)


def test_the_bounds_of_a_share_stay_within_nothing_and_all():
    assert wilson(200, 200) == (pytest.approx(0.9812, abs=1e-3), 1.0)
    assert wilson(0, 50)[0] == 0.0
    low, high = wilson(180, 200)
    assert low < 0.9 < high
    assert 0.9 - low > high - 0.9


def test_a_setting_beside_itself_is_no_different():
    one = marks()
    assert all(low == value == high for value, low, high in beside(one, one, REAL).values())


def test_a_small_difference_on_the_same_clips_is_seen_where_clips_differ_more():
    one = marks()
    other = Marks(**(vars(one) | {"face": one.face - 0.02}))
    value, _, high = beside(other, one, REAL)["face"]
    assert value == pytest.approx(-0.02)
    assert high < 0
    assert beside(other, one, REAL)["kept"] == (0, 0, 0)


def test_more_of_the_same_clips_is_not_more_variety():
    wide = marks()
    near = Marks(**(vars(wide) | {"features": np.tile(wide.features[:1], (60, 1)) + 1e-6 * wide.features}))
    assert told(near, REAL)["spread"] < 0.01 < told(wide, REAL)["spread"]


@pytest.fixture(scope="module")
def contest():
    return Contest(draw_pairs(2, seed=5, neutral=True), FOLDERS["t2v"])


def test_the_difference_to_oneself_is_nothing(contest, monkeypatch):
    """Told the same prompt again, the walk ends where the prior did, however few its steps."""
    monkeypatch.setattr(contest, "pairs", [replace(pair, after=pair.before) for pair in contest.pairs])
    record = contest.record(10)
    ended = contest._latents(Setting(how="difference", prior=10, sigma=0.833, steps=3))
    assert torch.allclose(ended, record[-1], atol=2e-4)


def test_on_the_priors_own_grid_the_difference_is_the_exact_resume(contest):
    record, grid = contest.record(10), wan_grid(10)
    walked = contest._difference(record, grid, grid[5:], 4.0)
    resumed = contest._walk(record[5], grid[5:], 4.0)[-1]
    assert torch.allclose(walked, resumed, atol=2e-4)
    assert not torch.allclose(walked, record[-1], atol=1e-1)
