"""The judge is right on real clips, and its measures of the scene say what they claim."""

import numpy as np
import pytest

from demo.world import scene
from demo.world.clips import ASPECTS, IDENTITIES, TRAVEL_PX, Clip, render
from demo.world.judge import judge
from demo.world.whole import RAMP

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


def test_all_frames_of_real_clips_are_as_they_should_be(seen):
    for clip, _, verdict in seen:
        assert verdict.does(clip.aspect), clip
        assert verdict.off_course(clip.aspect) < 0.15
        assert verdict.jitter(clip.aspect) < 0.15
        assert verdict.face(clip.aspect) > 0.6
        assert verdict.outline > 0.75


@pytest.mark.parametrize("share", [0.4, 2.0])
def test_too_little_and_too_much_are_not_what_was_asked(share):
    aspect = "right"
    frames = render(Clip(identity=IDENTITIES[0], aspect="still", life=5))
    rolled = np.stack([np.roll(f, round(TRAVEL_PX * share * r), axis=1) for f, r in zip(frames, RAMP, strict=True)])
    verdict = judge(rolled)
    # The aspect that is nearest forgives twice the motion: nothing else is nearer.
    assert verdict.aspect == (aspect if share > 1 else "still")
    assert not verdict.does(aspect)
    assert verdict.off_course(aspect) > 0.2


def test_a_face_that_breaks_in_mid_motion_is_seen_though_both_ends_are_whole():
    clip = Clip(identity=IDENTITIES[0], aspect="left", life=3)
    frames = render(clip)
    whole = judge(frames)
    broken = frames.copy()
    for frame in (4, 5):
        level = np.median(frames[frame][whole.body[frame] > 0.9], axis=0)
        broken[frame][whole.body[frame] > 0.05] = level
        near = np.argwhere(whole.body[frame] > 0.5)
        top, left = near.min(0)
        bottom, right = near.max(0)
        broken[frame, top : bottom + 1, left : right + 1] = level
    verdict = judge(broken)
    assert verdict.aspect == whole.aspect == "left"
    assert whole.face("left") - verdict.face("left") > 0.5
    assert whole.outline - verdict.outline > 0.1


def test_a_creature_that_shakes_on_its_way_is_seen():
    frames = render(Clip(identity=IDENTITIES[0], aspect="still", life=8))
    shaken = np.stack([np.roll(frame, 3 * (-1) ** number, axis=1) for number, frame in enumerate(frames)])
    assert judge(shaken).jitter("still") > 0.5 > judge(frames).jitter("still")


def test_other_features_see_what_happens_to_the_creature_alone(seen):
    frames = np.stack([frames for _, frames, _ in seen])
    plain = np.array([scene.spectrum(clip) for clip in frames])
    frozen = frames.copy()
    frozen[:, 4] = frames[:, 3]
    assert scene.frechet(np.array([scene.spectrum(clip) for clip in frozen]), plain) > 0.1
