"""The world is the same for the same seed, and its aspects start alike."""

import numpy as np
import pytest

from demo.world.clips import (
    ASPECTS,
    COLOURS,
    HELD_OUT,
    IDENTITIES,
    SHAPES,
    TRAINED,
    Clip,
    draw_clips,
    render,
    render_all,
)


def test_the_same_seed_draws_and_renders_the_same_clips():
    first, again = (render_all(draw_clips(4, seed=3)) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, render_all(draw_clips(4, seed=4)))


def test_held_out_identities_are_never_drawn_for_training_but_their_parts_are():
    drawn = {clip.identity for clip in draw_clips(2000, seed=0)}
    assert drawn == set(TRAINED)
    assert not drawn & set(HELD_OUT)
    assert {i.shape for i in TRAINED} == set(SHAPES)
    assert {i.colour for i in TRAINED} == set(COLOURS)


@pytest.mark.parametrize("aspect", ASPECTS)
def test_every_aspect_starts_from_the_same_frame_and_only_still_ends_like_still(aspect):
    still = render(Clip(identity=IDENTITIES[0], aspect="still", life=5))
    frames = render(Clip(identity=IDENTITIES[0], aspect=aspect, life=5))
    assert np.array_equal(frames[0], still[0])
    assert np.array_equal(frames[-1], still[-1]) == (aspect == "still")


def test_the_scene_lives_its_own_life():
    one, other = (render(Clip(identity=IDENTITIES[0], aspect="still", life=life)) for life in (1, 2))
    assert np.abs(one[0] - other[0]).mean() > 0.02
    assert np.abs(one[0] - one[-1]).mean() > 0.005
