"""A Prefect server that belongs to one file of tests, which may kill it; the one that other tests share lives on."""

import contextlib
import os
import signal
import time

import pytest

from flows.on_prefect import server
from flows.on_prefect.door.access import secret_of
from tasks.settings import ServerSettings


@contextlib.contextmanager
def own_home(folder):
    """State in `folder`, and no server that others have started."""
    kept = os.environ.copy()
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["HEADSTART_HOME"] = str(folder)
    try:
        yield
    finally:
        server.stop()
        os.environ.clear()
        os.environ.update(kept)


def started(port):
    """Start it, or find it; this process is let in."""
    found = server.start(ServerSettings(port=port))
    os.environ["PREFECT_API_AUTH_STRING"] = secret_of(server.log_file().parent)
    return found


def killed():
    """End it as a power cut does."""
    os.killpg(server.running().pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while server.running() is not None:
        if time.monotonic() > end:
            pytest.fail("the server does not die")
        time.sleep(0.02)
