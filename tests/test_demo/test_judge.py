"""The judge is right on real clips, and its measures of the scene say what they claim."""

import numpy as np
import pytest

from demo.world import scene
from demo.world.clips import ASPECTS, IDENTITIES, Clip, render
from demo.world.judge import judge

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clips():
    """Each aspect by ten identities: all shapes, all colours."""
    rng = np.random.default_rng(8)
    return [
        Clip(identity=IDENTITIES[i], aspect=aspect, life=int(rng.integers(2**31)))
        for aspect in ASPECTS
        for i in rng.permutation(len(IDENTITIES))[:10]
    ]


@pytest.fixture(scope="module")
def seen(clips):
    return [(clip, frames, judge(frames)) for clip in clips for frames in [render(clip)]]


def test_the_judge_errs_on_at_most_two_percent_of_real_clips(seen):
    wrong = [(c.aspect, v.aspect) for c, _, v in seen if v.aspect != c.aspect]
    assert len(wrong) <= 0.02 * len(seen), wrong
    assert all(v.identity == c.identity for c, _, v in seen)


def test_real_clips_follow_their_own_aspect_about_fully_and_the_others_hardly(seen):
    for clip, _, verdict in seen:
        if clip.aspect == "still":
            continue
        assert 0.4 < verdict.followed(clip.aspect) < 1.5, clip
        assert verdict.followed("still") < 0.6, clip


def test_real_clips_have_no_ghosts_and_a_second_creature_is_one(seen):
    assert max(v.ghost for _, _, v in seen) < 0.02
    frames = next(f for c, f, _ in seen if c.aspect == "still")
    twice = frames.copy()
    twice[:, :20, :20] = frames[:, 22:42, 22:42]
    assert judge(twice).ghost > 0.1


def test_scene_kept_is_one_for_itself_and_nothing_for_another(seen):
    (_, a, va), (_, b, vb) = seen[0], seen[1]
    assert scene.kept(a, va.body, a, va.body) == pytest.approx(1.0, abs=1e-4)
    assert abs(scene.kept(a, va.body, b, vb.body)) < 0.3


def test_detail_falls_when_the_picture_is_blurred_and_the_frechet_distance_grows(seen):
    def soften(frames):
        return sum(np.roll(frames, (dy, dx), (1, 2)) for dy in range(-3, 4) for dx in range(-3, 4)) / 49

    real = [(f, v.body) for _, f, v in seen]
    blurred = [(soften(f), body) for f, body in real]
    assert np.mean([scene.detail(*x) for x in blurred]) < 0.8 * np.mean([scene.detail(*x) for x in real])
    features = [scene.features(*x) for x in real]
    floor = scene.frechet(features[::2], features[1::2])
    assert scene.frechet([scene.features(*x) for x in blurred], features) > 2 * floor
    assert scene.frechet(features, features) == pytest.approx(0, abs=1e-3)
