"""The guard marks what it should, and knows when a second try makes sense."""

import pytest
import torch

from flows.compose import compose_settings
from tasks.errors import SettingsError
from tasks.making.guard import LOST, STUCK, earlier, look
from tasks.settings import GuardSettings

GUARD = GuardSettings(enabled=True, retry_earlier=2)
PRIOR = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
OTHER = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def test_the_same_again_did_not_move():
    found = look(PRIOR, PRIOR, GUARD, started=6)
    assert (found.kept, found.moved, found.mark) == (1.0, 0.0, STUCK)


def test_something_else_lost_its_identity():
    found = look(OTHER, PRIOR, GUARD, started=6)
    assert found.mark == LOST
    assert found.moved > 1


def test_a_variant_that_starts_alike_and_goes_elsewhere_is_well():
    ours = PRIOR.clone()
    ours[:, :, 1:] = OTHER[:, :, 1:]
    assert look(ours, PRIOR, GUARD, started=6).mark is None


def test_pictures_are_compared_as_a_whole():
    assert look(PRIOR[:, :, 0], PRIOR[:, :, 0], GUARD, started=1).kept == 1


@pytest.mark.parametrize(
    ("ours", "started", "expected"), [(PRIOR, 6, 4), (PRIOR, 1, 0), (PRIOR, 0, None), (OTHER, 6, None)]
)
def test_only_what_is_stuck_is_tried_from_earlier(ours, started, expected):
    assert earlier(look(ours, PRIOR, GUARD, started=started), GUARD) == expected


def test_no_second_try_unless_asked_for():
    settings = GuardSettings(enabled=True)
    assert earlier(look(PRIOR, PRIOR, settings, started=6), settings) is None


def test_guard_on_is_short_for_enabled():
    assert compose_settings(["guard=on"]).guard.enabled
    assert not compose_settings(["guard=off"]).guard.enabled
    with pytest.raises(SettingsError, match="guard"):
        compose_settings(["guard=maybe"])
