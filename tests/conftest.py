"""What several areas of tests share: a tiny model, one Prefect server, one browser, and how hypothesis behaves.

Everything costly is made once a session and on first use, so a run of one folder pays only for what it asks for.
"""

import os
import shutil

import pytest

pytest_plugins = ["kinds"]
# The laws that every backend keeps lie in the package, for others to use; what they find should be told here too.
pytest.register_assert_rewrite("prior_store.testing")

try:
    from hypothesis import settings
except ImportError:  # a plain installation can still run the tests that need no hypothesis
    pass
else:
    # The same examples on every machine: a red run is red for everybody.
    settings.register_profile("ci", derandomize=True, deadline=None)
    settings.register_profile("quick", settings.get_profile("ci"), max_examples=20)
    settings.load_profile("ci")

# Neither the user's own server, nor the user's own settings, nor how wide a window is may decide how a test ends.
for _name in (
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_PROFILE",
    "HEADSTART_DATABASE",
    "COLUMNS",
    "LINES",
):
    os.environ.pop(_name, None)
# Tests run side by side, so each keeps to one core. Said here, since torch reads it once, when the first test imports it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SET_BY_CONNECT = ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_HOME", "PREFECT_API_AUTH_STRING")
CHROMIUM = os.environ.get("HEADSTART_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory):
    """No test reads or writes the state folder of the person who runs it."""
    os.environ["HEADSTART_HOME"] = str(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def tiny_t2v(tmp_path_factory):
    """Folder of a tiny Wan text-to-video model with random weights."""
    import tiny_models

    return tiny_models.build("wan-t2v", tmp_path_factory.mktemp("tiny_t2v") / "wan-t2v")


@pytest.fixture(scope="session")
def prepared(_own_state):
    """Starts `headstart` as a process of its own, without waiting for the import of the model libraries each time."""
    from prepared import Prepared

    process = Prepared()
    yield process
    process.close()


@pytest.fixture(scope="session")
def prefect_server(_own_state):
    """A real Prefect server, started as users start it; this process and its children talk to it."""
    from flows.on_prefect import server
    from tasks.settings import ServerSettings

    before = {name: os.environ.get(name) for name in SET_BY_CONNECT}
    # Each test process has ports of its own: two that look at once for a free one may find the same.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    server.connect(ServerSettings(port=4400 + 20 * worker))
    started = server.running()
    yield started
    server.stop()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def chromium():
    """A real browser; every page is a fresh one."""
    if CHROMIUM is None:
        pytest.skip(
            "NOT PROVEN HERE: no Chromium on this machine; install the package chromium or set HEADSTART_CHROMIUM"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()
