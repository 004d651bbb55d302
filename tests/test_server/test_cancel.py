"""A person cancels in the UI what was started in a shell: it stops at the next step and keeps what is finished."""

import json
import time

import pytest
from server_api import Api

from tests.test_flows.conftest import Bench

ROWS = 100


@pytest.fixture
def asked(prefect_server):
    return Api(prefect_server).ask


def wait_for(found, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not (value := found()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def cancel_in_the_ui(asked, process, started, named):
    """Wait until there is something to lose, press the button, and see how the process ends."""
    try:
        wait_for(started, process)
        (run,) = asked("/flow_runs/filter", {"flow_runs": named})
        # What the button does.
        asked(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
        out, err = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, (out, err)
    (run,) = asked("/flow_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    assert (run["state"]["type"], run["state"]["name"]) == ("CANCELLED", "Cancelled")
    return run, out, err


def test_a_run_that_is_cancelled_in_the_ui_stops_and_can_go_on(asked, tmp_path, tiny_t2v, prepared):
    bench = Bench(tmp_path, tiny_t2v, prepared)
    bench.write_sheet(["fox"], [f"does {number}" for number in range(ROWS)])
    longer = ["schedule.num_inference_steps=40", "server=remote", "batch=cancelled-in-the-ui", "runner.chunk_size=25"]
    named = {"name": {"any_": ["cancelled-in-the-ui"]}}
    run, out, err = cancel_in_the_ui(asked, bench.start("run", *longer), lambda: len(committed(tmp_path)) > 2, named)
    kept = len(committed(tmp_path))
    assert 0 < kept < ROWS
    assert f"Interrupted with {ROWS - kept} rows left. Continue with: headstart run" in out
    assert "cancelled in the Prefect UI; stopping at the next step" in out + err
    assert f"{kept} variants made" in run["state"]["message"]
    plan = json.loads(bench.run("plan", *longer, "--json").stdout)
    assert sum(row["cached"] for row in plan["rows"]) == kept
    assert bench.store().verify().ok


def test_a_study_that_is_cancelled_in_the_ui_keeps_the_pairs_that_it_measured(asked, tmp_path, tiny_t2v, prepared):
    bench = Bench(tmp_path, tiny_t2v, prepared)
    bench.write_sheet(["fox"], [f"does {number}" for number in range(40)])
    few = ["inflection.pairs=40", "inflection.start_steps=[1,30]", "inflection.tails=[exact]"]
    process = bench.start("inflection", "schedule.num_inference_steps=40", "server=remote", *few)
    pairs = lambda: list((tmp_path / "store" / "batches").glob("inflection-*/pair-*.json"))  # noqa: E731
    named = {"name": {"like_": "inflection of"}, "state": {"type": {"any_": ["RUNNING"]}}}
    _, out, _ = cancel_in_the_ui(asked, process, pairs, named)
    assert 0 < len(pairs()) < 40
    assert "Interrupted; continue with: headstart inflection" in out


def committed(folder):
    return list((folder / "store" / "variants").glob("*/*/COMMIT.json"))
