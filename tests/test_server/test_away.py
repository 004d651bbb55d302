"""The server is killed, frozen, gone for good: the batch goes on at full speed, and what can be told later is told later."""

import contextlib
import os
import signal
import subprocess
import time

import pytest
from own_server import killed, own_home, started
from server_api import Api
from test_server.test_ui import MANY, Batches, prepared, settled

from flows.on_prefect import server

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROWS = 60
ROW_S = 0.05
PORT = 4960


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    with own_home(tmp_path_factory.mktemp("home")):
        yield


@contextlib.contextmanager
def batch(folder, model, name, rows=ROWS, **environment):
    """A running batch; gives the process, and a function that waits until so many rows are through."""
    count = folder / f"{name}.count"
    command = prepared(folder, model, rows, 3, [MANY, "0", "0"], name, f"server.port={PORT}")
    command["env"] |= environment | {"HEADSTART_TEST_ROW_S": str(ROW_S), "HEADSTART_TEST_ROWS": str(count)}

    def through(number):
        end = time.monotonic() + 120
        while not count.exists() or int(count.read_text() or 0) < number:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)

    with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, through
        finally:
            process.kill()


def asked_now():
    return Batches(started(PORT))


def test_killed_and_started_again_it_knows_all_in_the_end(tmp_path, tiny_t2v):
    asked_now()
    gate = tmp_path / "gate"
    with batch(tmp_path, tiny_t2v, "killed", rows=200, HEADSTART_TEST_GATE=str(gate)) as (process, through):
        through(20)
        killed()
        through(60)
        api = asked_now()
        gate.touch()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "200 variants made, 0 already there, 0 failed" in out
    assert err.count("the Prefect server does not answer") == 1, err
    assert "the Prefect server is back" in err
    assert "Traceback" not in err
    run = api.run_of("killed")
    assert settled(api, run, 200 + 3 + 1) == {"COMPLETED": 204}
    assert run["state"]["type"] == "COMPLETED"
    assert set(api.artifacts_of(run)) == {"progress", "summary", "report"}


def test_gone_for_good_it_costs_the_batch_nothing_and_the_next_run_tells_the_rest(tmp_path, tiny_t2v):
    asked_now()
    with batch(tmp_path, tiny_t2v, "alone") as (process, through):
        through(10)
        killed()
        begun = time.monotonic()
        out, err = process.communicate(timeout=120)
    # Two workers: a generous bound on what a wait for the server would break.
    assert time.monotonic() - begun < 10 + ROWS * ROW_S
    assert process.returncode == 0, err
    assert f"{ROWS} variants made, 0 already there, 0 failed" in out
    assert "are missing in its UI; the next run that finds the server hands them in" in err
    assert "Traceback" not in err
    assert (tmp_path / "store" / "batches" / "alone" / "report.html").exists()
    api = asked_now()
    assert api.run_of("alone")["state"]["type"] == "RUNNING", "nobody has told it yet"
    with batch(tmp_path, tiny_t2v, "next", rows=1) as (process, _):
        assert process.wait(120) == 0
    run = api.run_of("alone")
    assert run["state"]["type"] == "COMPLETED"
    assert settled(api, run, ROWS + 3 + 1) == {"COMPLETED": ROWS + 4}


def test_frozen_it_holds_nothing_up(tmp_path, tiny_t2v):
    api = asked_now()
    with batch(tmp_path, tiny_t2v, "frozen") as (process, through):
        through(10)
        os.killpg(server.running().pid, signal.SIGSTOP)
        try:
            through(ROWS)
            os.killpg(server.running().pid, signal.SIGCONT)
            _, err = process.communicate(timeout=120)
        finally:
            os.killpg(server.running().pid, signal.SIGCONT)
    assert process.returncode == 0, err
    run = api.run_of("frozen")
    assert settled(api, run, ROWS + 3 + 1) == {"COMPLETED": ROWS + 4}


def test_a_server_that_refuses_what_it_is_told_ends_nothing(tmp_path, tiny_t2v):
    """Its database is emptied under a run, so that the run that it is told of is unknown to it."""
    api = asked_now()
    with batch(tmp_path, tiny_t2v, "unknown") as (process, through):
        through(10)
        run = api.run_of("unknown")
        Api(server.running()).ask(f"/flow_runs/{run['id']}", {}, method="DELETE")
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
