"""Schedules: the right moments over a clock change, runs that really happen by themselves, and never two at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from server_api import Api

from flows.on_prefect.nightly import deployment_of, settled_overrides
from prior_store import Store
from tasks.errors import SettingsError, SheetError

ROOT = Path(__file__).resolve().parents[2]
TINY = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4", "runner.devices=cpu"]
BERLIN = ZoneInfo("Europe/Berlin")
HALF_PAST_TWO = datetime.min.time().replace(hour=2, minute=30)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_t2v):
    """A folder with a sheet, and the settings that name it by relative paths."""
    (tmp_path / "sheet.csv").write_text(
        "identity,prompt,base_prompt,seed\nfox,a fox turns,a fox,1\nfox,a fox jumps,a fox,1\n"
    )
    (tmp_path / "model").symlink_to(tiny_t2v)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SETTINGS = ["sheet=sheet.csv", "model=model", *TINY, "store=store"]


class Deployments(Api):
    def runs(self, deployment, **filters):
        body = {"flow_runs": {"deployment_id": {"any_": [deployment]}, **filters}, "limit": 200}
        return self.ask("/flow_runs/filter", {**body, "sort": "EXPECTED_START_TIME_ASC"})

    def deployment(self, name):
        found = self.ask("/deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found[0]["id"] if found else None


@pytest.fixture
def api(prefect_server):
    return Deployments(prefect_server)


def moment(text):
    return datetime.fromisoformat(text)


def next_changes():
    """The next two moments at which Berlin changes its clocks: one forward, one back."""
    found, day = [], datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    while len(found) < 2:
        before, after = (day + timedelta(hours=hours) for hours in (-12, 12))
        if before.astimezone(BERLIN).utcoffset() != after.astimezone(BERLIN).utcoffset():
            found.append(day)
            day += timedelta(days=1)
        day += timedelta(days=1)
    return found


def expected(around, days=3):
    """Half past two on the wall of every day; in the one night that has no such time an hour earlier: half past one."""
    walls = [
        datetime.combine(around.astimezone(BERLIN) + timedelta(days=day), HALF_PAST_TWO)
        for day in range(-days, days + 1)
    ]
    # Of a time that does not exist, fold=1 is the reading by the clock that comes after.
    return [wall.replace(fold=int(not exists(wall)), tzinfo=BERLIN).astimezone(UTC) for wall in walls]


def exists(wall):
    return wall.replace(tzinfo=BERLIN).astimezone(UTC).astimezone(BERLIN).replace(tzinfo=None) == wall


def test_a_cron_line_means_the_clock_on_the_wall_before_and_after_a_change(api, folder):
    program = (
        "import sys; from flows.on_prefect.nightly import deployment_of;"
        "print(deployment_of(sys.argv[1:], name='dst', cron='30 2 * * *', timezone='Europe/Berlin', every_s=None).apply())"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, *SETTINGS],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    deployment = said.stdout.split()[-1]
    end = time.monotonic() + 180
    while not api.runs(deployment) and time.monotonic() < end:
        time.sleep(0.5)
    by_itself = [moment(run["expected_start_time"]) for run in api.runs(deployment)]
    assert by_itself, "the server's scheduler has made no run by itself"
    for change in next_changes():
        first, *_, last = expected(change)
        window = {
            "start_time": (first - timedelta(minutes=1)).isoformat(),
            "end_time": (last + timedelta(minutes=1)).isoformat(),
        }
        api.ask(f"/deployments/{deployment}/schedule", {**window, "min_runs": 50, "max_runs": 50})
        near = {"expected_start_time": {"after_": window["start_time"], "before_": window["end_time"]}}
        seen = [moment(run["expected_start_time"]) for run in api.runs(deployment, **near)]
        assert seen == expected(change)
        assert len({start.astimezone(BERLIN).utcoffset() for start in seen}) == 2, (
            "the window really crosses the change"
        )
    for start in by_itself:
        assert start in expected(start, days=1)


@pytest.mark.slow
def test_an_interval_really_runs_finds_nothing_to_do_the_second_time_and_never_overlaps(api, folder):
    command = [sys.executable, "-m", "flows.cli", "nightly", *SETTINGS, "--every", "6", "--name", "often"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_RUNNER_POLL_FREQUENCY": "2"}
    with (folder / "served.log").open("w") as log:
        serving = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            ended = []
            end = time.monotonic() + 400
            while len(ended) < 2 and time.monotonic() < end:
                time.sleep(1)
                deployment = api.deployment("often")
                ended = api.runs(deployment, state={"type": {"any_": ["COMPLETED"]}}) if deployment else []
                assert serving.poll() is None, (folder / "served.log").read_text()
            assert len(ended) >= 2, (folder / "served.log").read_text()
        finally:
            serving.send_signal(signal.SIGINT)
            serving.wait(180)
    messages = [run["state"]["message"] for run in sorted(ended, key=lambda run: run["start_time"])]
    assert messages[0].startswith("2 variants made, 0 already there, 0 failed of 2")
    assert messages[1].startswith("0 variants made, 2 already there, 0 failed of 2")
    # On a slow machine the next one falls due while one runs: the server refuses it, and gives it a start time all the same.
    refused = {
        run["id"] for run in api.runs(deployment) if run["state"]["message"] == "Deployment concurrency limit reached."
    }
    started = [run for run in api.runs(deployment) if run["start_time"] and run["id"] not in refused]
    assert {run["id"] for run in ended} <= {run["id"] for run in started}
    assert not any("headstart.process.pid" in run["labels"] for run in api.runs(deployment) if run["id"] in refused)
    ran = sorted((moment(run["start_time"]), moment(run["end_time"] or run["updated"])) for run in started)
    for (_, one_ends), (next_starts, _) in pairwise(ran):
        assert one_ends <= next_starts
    assert {run["name"] for run in ended} == {"render sheet.csv"}
    settle = time.monotonic() + 120
    while running := api.runs(deployment, state={"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}):
        assert time.monotonic() < settle, f"left behind: {[(run['name'], run['state']['name']) for run in running]}"
        time.sleep(0.5)


@pytest.mark.slow
def test_told_to_end_in_mid_run_it_keeps_what_is_finished_and_says_how_the_run_ended(api, folder):
    rows = [f"id{number},a fox turns,a fox,{number}" for number in range(16)]
    (folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *rows]))
    slow = ["schedule.num_inference_steps=40", "prior.keep=from:19", "runner.workers=1"]
    command = [sys.executable, "-m", "flows.cli", "nightly", *SETTINGS, *slow, "--every", "3600", "--name", "ended"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_RUNNER_POLL_FREQUENCY": "1"}

    @contextlib.contextmanager
    def served():
        with (folder / "served.log").open("w") as log:
            serving = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield serving
        finally:
            serving.kill()
            serving.wait()

    def wait_for(condition, serving):
        end = time.monotonic() + 300
        while not (found := condition()):
            assert serving.poll() is None, (folder / "served.log").read_text()
            assert time.monotonic() < end, (folder / "served.log").read_text()
            time.sleep(0.1)
        return found

    def finished():
        return len(list((folder / "store" / "variants").glob("*/*/COMMIT.json")))

    with served() as serving:
        deployment = wait_for(lambda: api.deployment("ended"), serving)
        # It says what it does before its first run, not after.
        wait_for(lambda: "Next run: " in (folder / "served.log").read_text(), serving)
        run = api.ask(f"/deployments/{deployment}/create_flow_run", {})["id"]
        wait_for(lambda: finished() >= 2, serving)
        before = finished()
        serving.terminate()
        assert serving.wait(180) == 0, (folder / "served.log").read_text()
    state = api.ask(f"/flow_runs/{run}")["state"]
    assert state["type"] == "CANCELLED", state
    store = Store.open(folder / "store", create=False)
    assert before <= finished() < 16, "it was told in mid-run"
    assert store.verify().ok
    assert len(store.known("variants")) == finished()
    assert api.ask(f"/deployments/{deployment}")["paused"], "nobody serves it, so nothing falls due"
    with served() as serving:
        wait_for(lambda: not api.ask(f"/deployments/{deployment}")["paused"], serving)
        serving.terminate()
        serving.wait(180)


def test_settled_overrides_mean_the_same_from_any_folder(folder):
    settled = settled_overrides([*SETTINGS, "tags=[a/b]", "sheet.identities=ids.csv"])
    assert f"model={(folder / 'model').resolve()}" in settled
    assert f"store={folder}/store" in settled
    assert f"sheet.identities={folder}/ids.csv" in settled
    assert "tags=[a/b]" in settled
    assert not any(line.startswith("sheet=") for line in settled)


@pytest.mark.parametrize(
    "line", ["model=demo", "model=wan21-t2v-1.3b", "model=owner/name-on-a-hub", "store=s3://bucket/x", "schedule=unipc"]
)
def test_choices_hub_ids_and_urls_stay_what_they_are(folder, line):
    (folder / "demo").mkdir()
    assert line in settled_overrides([line])


def test_the_default_store_is_where_the_command_was_given(folder):
    assert settled_overrides([]) == [f"store.url={folder}/headstart-store"]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"cron": "every night"}, r"--cron 'every night' is not a cron line.*30 2"),
        ({"cron": "61 2 * * *"}, "is not a cron line"),
        ({"timezone": "Mars/Olympus"}, "Mars/Olympus.*Europe/Berlin"),
    ],
)
def test_a_wrong_schedule_is_told_now_and_not_at_night(folder, wrong, says):
    with pytest.raises(SettingsError, match=says):
        deployment_of(SETTINGS, **{"name": "n", "cron": "30 2 * * *", "timezone": "UTC", "every_s": None, **wrong})


def test_a_wrong_sheet_is_told_now_and_not_at_night(folder):
    (folder / "sheet.csv").write_text("identity,prompt\nfox,\n")
    with pytest.raises(SheetError):
        deployment_of(SETTINGS, name="n", cron="30 2 * * *", timezone="UTC", every_s=None)
