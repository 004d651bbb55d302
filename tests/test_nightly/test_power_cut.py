"""A power cut in the night, and a form that is filled in to read what lies elsewhere.

Everything dies at once, and the next run starts all the same; a live run is left alone.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from own_server import killed, own_home, started
from test_nightly.test_nightly import ROOT, SETTINGS, Deployments

from flows.on_prefect.orphans import close_orphans

pytestmark = [pytest.mark.server, pytest.mark.slow]
PORT = 4970
SLOW = ["schedule.num_inference_steps=40", "prior.keep=from:19", "runner.workers=1", f"server.port={PORT}"]


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_t2v):
    """A folder with a sheet of many slow rows."""
    rows = [f"id{number},a fox turns,a fox,{number}" for number in range(40)]
    (tmp_path / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *rows]))
    (tmp_path / "model").symlink_to(tiny_t2v)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextlib.contextmanager
def serving(folder):
    command = [sys.executable, "-m", "flows.cli", "nightly", *SETTINGS, *SLOW, "--every", "3600", "--name", "night"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with (folder / "served.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(found, log, seconds=180):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)
    return value


def closed(deployment):
    """How many runs are closed now. On a thread: a browser of other tests may have a loop on this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, close_orphans(deployment)).result()


def test_after_a_power_cut_the_next_run_starts(folder, tmp_path):
    log = folder / "served.log"
    finished = lambda: list((folder / "store" / "variants").glob("*/*/COMMIT.json"))  # noqa: E731
    with own_home(tmp_path / "home"):
        api = Deployments(started(PORT))
        with serving(folder) as night:
            deployment = wait_for(lambda: api.deployment("night"), log)
            wait_for(lambda: not api.ask(f"/deployments/{deployment}")["paused"], log)
            first = api.ask(f"/deployments/{deployment}/create_flow_run", {})["id"]
            wait_for(finished, log)
            os.environ["PREFECT_API_URL"] = api.api_url
            assert closed(deployment) == 0, "it lives"
            assert api.ask(f"/flow_runs/{first}")["state"]["type"] == "RUNNING"
            running = psutil.Process(night.pid).children(recursive=True)
            assert running, "each run is a process of its own"
            killed()
            for process in [psutil.Process(night.pid), *running]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        psutil.wait_procs(running, timeout=10)
        kept = len(finished())
        api = Deployments(started(PORT))
        assert api.ask(f"/flow_runs/{first}")["state"]["type"] == "RUNNING", "nobody could tell"
        with serving(folder):
            wait_for(lambda: api.ask(f"/flow_runs/{first}")["state"]["type"] == "CRASHED", log)
            second = api.ask(f"/deployments/{deployment}/create_flow_run", {})["id"]
            wait_for(lambda: len(finished()) > kept, log)
            assert api.ask(f"/flow_runs/{second}")["state"]["type"] == "RUNNING"


def test_the_form_of_a_deployment_reads_nothing_that_lies_elsewhere(folder, tmp_path, prefect_server):
    (tmp_path / "elsewhere.csv").write_text("identity,prompt\nfox,the first line of another file\n")
    (folder / "here").mkdir()
    (folder / "sheet.csv").rename(folder / "here" / "sheet.csv")
    api = Deployments(prefect_server)
    command = [sys.executable, "-m", "flows.cli", "nightly", "sheet=here/sheet.csv", *SETTINGS[1:], "--every", "3600"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}
    with (
        (folder / "served.log").open("w") as log,
        subprocess.Popen([*command, "--name", "bounded"], env=environment, stdout=log, stderr=log) as serving,
    ):
        try:
            deployment = wait_for(lambda: api.deployment("bounded"), folder / "served.log")
            told = {
                "sheet": str(tmp_path / "elsewhere.csv"),
                "overrides": ["server.database=sqlite:///x", "guidance=3"],
            }
            run = api.ask(f"/deployments/{deployment}/create_flow_run", {"parameters": told})["id"]
            final = {"FAILED", "CRASHED", "COMPLETED"}
            state = wait_for(lambda: ended_in(api, run, final), folder / "served.log")
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.wait(120)
    assert state["type"] == "FAILED", state
    assert f"sheet={tmp_path / 'elsewhere.csv'}' lies outside of" in state["message"]
    assert "server.database=sqlite:///x' is nothing that a deployment can be told" in state["message"]
    assert "guidance" not in state["message"].partition("lies outside")[0]
    assert "first line" not in state["message"]


def ended_in(api, run, final):
    state = api.ask(f"/flow_runs/{run}")["state"]
    return state if state["type"] in final else None
