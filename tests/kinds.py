"""Which tests are quick: those that start no process. Fixtures and marks say it, and a watch sees that they say the truth.

A test that uses a fixture which starts something gets its mark by itself; one that starts a process with its own hands
carries the mark `process`, alone or for its whole file. All others are marked `quick`, and fail if they start one.
"""

import sys

import pytest

STARTED_BY = {
    "chromium": "browser",
    "moto_server": "s3",
    "prefect_server": "server",
    "prepared": "process",
    "seaweed_server": "s3",
}
NOT_QUICK = {"browser", "gpu", "process", "s3", "server", "slow"}
STARTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


class _Watch:
    """What the running test has started, as the interpreter's own audit tells it, on whatever thread."""

    def __init__(self):
        self.test, self.seen = None, []

    def __call__(self, event, arguments):
        if self.test and event in STARTS:
            self.seen.append(f"{event} {arguments[0] if arguments else ''}")

    def end(self):
        seen, self.seen = self.seen, []
        if seen:
            pytest.fail(
                f"a quick test started a process: {', '.join(seen)}; mark it pytest.mark.process", pytrace=False
            )


_watch = _Watch()
sys.addaudithook(_watch)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for fixture, mark in STARTED_BY.items():
            if fixture in item.fixturenames:
                item.add_marker(mark)
        if not any(mark.name in NOT_QUICK for mark in item.iter_markers()):
            item.add_marker("quick")


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
