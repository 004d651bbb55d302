"""Machines whose clocks are wrong."""

import contextlib
import datetime as dt
import time

import pytest

HOUR, DAY = 3600, 24 * 3600
OFFSETS = [HOUR, -HOUR, DAY, -DAY]


@contextlib.contextmanager
def clock_off_by(seconds):
    """This block runs on a machine whose wall clock is off; the disk has a clock of its own."""
    real = (time.time, time.time_ns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real[0]() + seconds)
        patch.setattr(time, "time_ns", lambda: real[1]() + seconds * 10**9)
        patch.setattr(
            "prior_store.manifest.schema.utc_now", lambda: dt.datetime.fromtimestamp(real[0]() + seconds, dt.UTC)
        )
        yield
