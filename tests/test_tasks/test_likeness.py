"""What the measures say of videos whose likeness is known."""

import numpy as np
import pytest

from tasks.studies import likeness

RNG = np.random.default_rng(7)
PRIOR = RNG.random((5, 32, 48, 3)).astype(np.float32)
FULL = PRIOR.copy()
FULL[:, :, 24:] = 1 - FULL[:, :, 24:] * 0.5


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_on_the_way_is_the_share_of_the_way(share):
    video = PRIOR + np.float32(share) * (FULL - PRIOR)
    assert likeness.on_the_way(video, PRIOR, FULL) == pytest.approx(share, abs=1e-5)


@pytest.mark.parametrize(("value", "place"), [(-0.2, 0.0), (0.3, 1.0), (0.05, 0.5), (0.55, 1.5)])
def test_a_number_stands_between_that_of_the_prior_and_that_of_the_full_run(value, place):
    assert likeness.between(value, -0.2, 0.3) == pytest.approx(place)
    assert likeness.between(value, 0.1, 0.1) == 0


def test_going_another_way_is_not_following():
    astray = PRIOR.copy()
    astray[:, :, :24] = 1
    assert likeness.on_the_way(astray, PRIOR, FULL) == pytest.approx(0, abs=1e-5)


def test_a_prompt_that_changes_nothing_tells_nothing():
    assert likeness.changed(PRIOR, PRIOR) == 0
    assert likeness.on_the_way(FULL, PRIOR, PRIOR) == 0
    assert likeness.changed(PRIOR, FULL) > 0.5


def test_layout_looks_only_where_the_prompt_changes_least():
    assert likeness.layout(FULL, PRIOR, FULL) == pytest.approx(1)
    elsewhere = PRIOR.copy()
    elsewhere[:, :, :24] = 0.5
    assert likeness.layout(elsewhere, PRIOR, FULL) < 0.1


def test_explained_is_one_for_the_same_and_nothing_for_grey():
    assert likeness.explained(PRIOR, PRIOR) == 1
    assert likeness.explained(np.full_like(PRIOR, PRIOR.mean()), PRIOR) == pytest.approx(0, abs=1e-5)
    assert likeness.explained(1 - PRIOR, PRIOR) == 0


def test_blur_loses_detail_and_agreement_ignores_scale():
    blurred = (PRIOR + np.roll(PRIOR, 1, 1) + np.roll(PRIOR, 1, 2) + np.roll(PRIOR, (1, 1), (1, 2))) / 4
    ours, theirs = likeness.detail(blurred), likeness.detail(PRIOR)
    assert ours[-1] < 0.5 * theirs[-1]
    assert likeness.agreement(PRIOR, 3 * PRIOR + 1) == pytest.approx(1, abs=1e-5)


def test_sizes_that_no_block_divides_are_cut():
    assert likeness.coarse(np.zeros((2, 35, 50, 3), np.float32)).shape[1:3] == (8, 12)
