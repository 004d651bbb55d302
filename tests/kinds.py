"""Which tests are quick: those that start no process. Fixtures and marks say it, and a watch sees that they say the truth.

A test that uses a fixture which starts something gets its mark by itself; one that starts a process with its own hands
carries the mark `process`, alone or for its whole file. All others are marked `quick`, and fail if they start one.
"""

import gc
import os
import sys
import threading
from multiprocessing.process import BaseProcess

import pytest

STARTED_BY = {
    "chromium": "browser",
    "moto_server": "s3",
    "prefect_server": "server",
    "prepared": "process",
    "seaweed_server": "s3",
}
NOT_QUICK = ("server", "slow", "s3", "browser", "process", "gpu")
STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


class _Watch:
    """What the running test has started, as the interpreter's own audit tells it, on whatever thread."""

    def __init__(self):
        self.test, self.seen = None, []

    def __call__(self, event, arguments):
        if self.test and event in STARTS and not _asked_by_a_library():
            self.seen.append(f"{event} {arguments[0] if arguments else ''}")

    def end(self):
        seen, self.seen = self.seen, []
        if seen:
            pytest.fail(
                f"a quick test started a process: {', '.join(seen)}; mark it pytest.mark.process", pytrace=False
            )


def _asked_by_a_library():
    """Whoever imports such a library first asks the machine what it is, once."""
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_globals.get("__name__") == "platform":
            return True
    return False


class _OneAtATime:
    """Python 3.11 refuses a trace function while another thread installs one, and a thread that is refused never runs.

    Coverage has every thread install one as it starts, so a pool of a library would lose a worker by chance.
    """

    def __init__(self):
        self.lock = threading.RLock()

    def __getattr__(self, name):
        return getattr(sys, name)

    def settrace(self, function):
        with self.lock:
            sys.settrace(function)

    def within(self, hook):
        def locked(*event):
            with self.lock:
                return hook(*event)

        return locked

    def watch_over(self):
        """Called once coverage has begun."""
        if sys.version_info < (3, 12) and threading._trace_hook is not None:
            threading._trace_hook = self.within(threading._trace_hook)
            threading._sys = self
            # A child has none of the threads that might have held the lock.
            os.register_at_fork(after_in_child=lambda: setattr(self, "lock", threading.RLock()))


_watch = _Watch()
sys.addaudithook(_watch)
_start = BaseProcess.start


def _started(self):
    # The interpreter audits no other way of multiprocessing than the fork.
    _watch("os.spawn", [self.name])
    _start(self)


BaseProcess.start = _started


def pytest_collection():
    gc.disable()
    _OneAtATime().watch_over()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for fixture, mark in STARTED_BY.items():
            if fixture in item.fixturenames:
                item.add_marker(mark)
        if not any(mark.name in NOT_QUICK for mark in item.iter_markers()):
            item.add_marker("quick")
    # What takes long comes first, so that no process is left alone with it at the end.
    items.sort(key=_rank)


def pytest_collection_finish():
    # What the libraries and the collected tests are made of stays to the end: no collection has to walk it again.
    gc.freeze()
    gc.enable()


def _rank(item):
    names = {mark.name for mark in item.iter_markers()}
    return next((rank for rank, name in enumerate(NOT_QUICK) if name in names), len(NOT_QUICK))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    _watch.test = item if item.get_closest_marker("quick") else None
    try:
        return (yield)
    finally:
        _watch.test = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    result = yield
    _watch.end()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown():
    result = yield
    _watch.end()
    return result
