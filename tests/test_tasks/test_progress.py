"""How far a run is, and how long it will take: by the clock of the last minute, not of the whole run."""

import pytest

from tasks.making import progress as module
from tasks.making.progress import Progress
from tasks.result import Result


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_loading_a_model_for_a_minute_makes_no_estimate_of_hours(clock):
    # Two priors of ten steps after a minute of loading, then 300 steps at ten a second: half a minute is left.
    progress = Progress(totals={"prior": 2, "variant": 100}, steps_total=320, started=clock.now)
    clock.now += 60
    for step in range(20):
        clock.now += 0.1
        progress.step("fox", "prior fox", step, 10)
    assert 15 < progress.seconds_left < 60


def test_a_run_that_hangs_says_longer_and_longer(clock):
    progress = Progress(steps_total=100, started=clock.now)
    for step in range(10):
        clock.now += 1
        progress.step("fox", "fox", step, 10)
    soon = progress.seconds_left
    clock.now += 100
    assert progress.seconds_left > 5 * soon


def test_steps_that_were_made_elsewhere_are_counted_by_their_results(clock):
    progress = Progress(totals={"variant": 2}, steps_total=10, started=clock.now)
    progress.ended(Result(id="a", kind="variant", key="k", status="done", steps_run=5))
    assert progress.steps_run == 5
    assert "variants 1/2" in progress.line()
    assert "5 of 10 steps" in progress.line()
