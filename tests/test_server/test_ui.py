"""What the Prefect UI holds and shows after a batch, on a real server, partly in a real browser."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from server_api import Api

ROOT = Path(__file__).resolve().parents[2]
# One task a row, so that tasks can be counted; left to itself a batch of quick rows joins them.
TINY = [
    "runner.chunk_size=1",
    "model.height=32",
    "model.width=32",
    "model.frames=5",
    "schedule.num_inference_steps=4",
    "runner.devices=cpu",
]


class Batches(Api):
    """What the server knows of batches."""

    def runs_of(self, batch):
        return self.ask("/flow_runs/filter", {"flow_runs": {"name": {"any_": [batch]}}})

    def run_of(self, batch):
        return self.runs_of(batch)[0]

    def tasks_of(self, run):
        found = []
        while True:
            body = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200, "offset": len(found)}
            page = self.ask("/task_runs/filter", body)
            found += page
            if len(page) < 200:
                return found

    def artifacts_of(self, run):
        body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        return {artifact["key"]: artifact for artifact in self.ask("/artifacts/filter", body)}


@pytest.fixture(scope="module")
def api(prefect_server):
    return Batches(prefect_server)


def launch(folder, model, rows, identities, command, name, *more):
    return subprocess.run(
        **prepared(folder, model, rows, identities, command, name, *more), capture_output=True, text=True, timeout=600
    )


def prepared(folder, model, rows, identities, command, name, *more):
    """What starts a batch: a sheet in its folder, the program, its settings."""
    lines = [
        f"id{number % identities},prompt {number},base {number % identities},{number % identities}"
        for number in range(rows)
    ]
    (folder / "sheet.csv").write_text("\n".join(["identity,prompt,base_prompt,seed", *lines]))
    settings = ["sheet=sheet.csv", f"model={model}", *TINY, "store=store", f"batch={name}", *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return {"args": [sys.executable, *command, *settings], "cwd": folder, "env": environment}


MANY = str(Path(__file__).with_name("many_rows.py"))


@pytest.fixture(scope="module")
def small(api, tiny_t2v, tmp_path_factory):
    """A real batch: two identities, four variants, as `headstart run` makes it."""
    folder = tmp_path_factory.mktemp("small")
    said = launch(folder, tiny_t2v, 4, 2, ["-m", "flows.cli", "run"], "small")
    assert said.returncode == 0, said.stderr
    run = api.run_of("small")
    settled(api, run, 7)
    return run, said, folder


def settled(api, run, expected, within_s=120):
    """Every task run is recorded and has ended."""
    end = time.monotonic() + within_s
    while True:
        states = Counter(task["state_type"] for task in api.tasks_of(run))
        if states.total() == expected and not still_open(states):
            return states
        assert time.monotonic() < end, f"after {within_s} s: {states}, wanted {expected}"
        time.sleep(0.2)


def test_three_hundred_rows_are_all_recorded_and_none_is_left_running(api, tiny_t2v, tmp_path):
    said = launch(tmp_path, tiny_t2v, 300, 10, [MANY, "20", "0"], "many")
    assert said.returncode == 1, said.stderr
    states = settled(api, api.run_of("many"), 300 + 10 + 1)
    assert states == {"COMPLETED": 296, "FAILED": 15}
    assert api.run_of("many")["state"]["name"] == "CompletedWithFailures"


def test_an_interrupted_batch_is_cancelled_and_nothing_in_it_has_failed(api, tiny_t2v, tmp_path):
    said = launch(tmp_path, tiny_t2v, 30, 3, [MANY, "0", "10"], "stopped", "runner.workers=2")
    assert said.returncode == 130, said.stderr
    run = api.run_of("stopped")
    assert run["state"]["type"] == "CANCELLED"
    # How many were handed out before the stop is chance; the server writes the last of them down when it gets to it.
    end = time.monotonic() + 60
    while not (states := Counter(task["state_type"] for task in api.tasks_of(run)))["CANCELLED"] or still_open(states):
        assert time.monotonic() < end, states
        time.sleep(0.2)
    assert states["FAILED"] == 0
    assert "failed" not in said.stdout.replace("0 failed", "")


def still_open(states):
    return set(states) - {"COMPLETED", "FAILED", "CANCELLED"}


def test_the_graph_fans_out_from_each_prior(api, small):
    run, _, _ = small
    nodes = {node["label"]: node for _, node in api.ask(f"/flow_runs/{run['id']}/graph-v2")["nodes"]}
    names = {node["id"]: label for label, node in nodes.items()}
    encode = next(label for label in nodes if label.startswith("encode"))
    children = {label: {names[child["id"]] for child in node["children"]} for label, node in nodes.items()}
    assert children[encode] == {"prior id0", "prior id1"}
    assert children["prior id0"] == {"id0/prompt-0 k2", "id0/prompt-2 k2"}
    assert children["prior id1"] == {"id1/prompt-1 k2", "id1/prompt-3 k2"}


def test_the_progress_artifact_ends_full_and_the_table_tells_the_figures(api, small):
    run, _, _ = small
    artifacts = api.artifacts_of(run)
    assert set(artifacts) == {"progress", "summary", "report"}
    assert artifacts["progress"]["data"] == 100.0
    table = {row["what"]: row["value"] for row in json.loads(artifacts["summary"]["data"])}
    assert (table["rows"], table["done now"], table["cached"], table["failed"]) == ("4", "4", "0", "0")
    assert table["steps run"].startswith("12")
    assert table["steps saved"] == "4 of 16 (25 %)"
    assert len(artifacts["report"]["data"]) < 100_000, "artifacts are rows of a database"


def test_the_progress_artifact_moves_while_the_batch_runs(api, tiny_t2v, tmp_path):
    many_steps = ["schedule.num_inference_steps=50", "runner.workers=1", "prior.keep=from:24"]
    command = prepared(tmp_path, tiny_t2v, 6, 6, ["-m", "flows.cli", "run", "-q"], "moving", *many_steps)
    seen = []
    with (tmp_path / "said.log").open("w") as log, subprocess.Popen(**command, stdout=log, stderr=log) as batch:
        while batch.poll() is None:
            time.sleep(0.2)
            runs = api.runs_of("moving")
            bar = api.artifacts_of(runs[0]).get("progress") if runs else None
            if bar and bar["data"] not in seen[-1:]:
                seen.append(bar["data"])
    assert batch.returncode == 0, (tmp_path / "said.log").read_text()
    assert seen == sorted(seen), "it never goes back"
    assert len([percent for percent in seen if 0 < percent < 100]) >= 2, seen
    assert api.artifacts_of(api.run_of("moving"))["progress"]["data"] == 100.0


def test_the_terminal_is_not_flooded(small):
    _, said, _ = small
    for noise in ("Finished in state", "Loading weights", "Beginning flow run", "HTTP Request"):
        assert noise not in said.stderr + said.stdout
    assert "View at http://" in said.stderr
    assert len(said.stdout.splitlines()) <= 10


@pytest.fixture
def page(chromium, prefect_server):
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(prefect_server.entrance)
    page.wait_for_url("**/dashboard**")
    page.outside = []
    page.on("request", lambda request: page.outside.append(request.url))
    yield page
    context.close()


def outside(page, api):
    return [url for url in page.outside if not url.startswith((api.ui_url, "data:", f"blob:{api.ui_url}"))]


def test_the_run_page_draws_the_graph_and_asks_nobody_outside(api, small, page):
    run, _, _ = small
    page.goto(f"{api.ui_url}/runs/flow-run/{run['id']}")
    page.get_by_text("7 Task runs").wait_for()
    page.locator("canvas").first.wait_for()
    box = page.locator("canvas").first.bounding_box()
    assert box["width"] > 600
    assert box["height"] > 200
    assert outside(page, api) == []


def test_the_artifact_page_shows_the_pictures(api, small, page):
    run, _, _ = small
    artifact = api.artifacts_of(run)["report"]
    page.goto(f"{api.ui_url}/artifacts/artifact/{artifact['id']}")
    page.locator("img[alt^=id]").first.wait_for()
    widths = page.locator("img[alt^=id]").evaluate_all("(pictures) => pictures.map((picture) => picture.naturalWidth)")
    assert len(widths) == 4
    assert all(width > 0 for width in widths)
    assert page.get_by_text("report.html").first.is_visible()
    assert page.get_by_text("num_inference_steps").first.is_visible()


def test_the_parameter_form_shows_every_field_with_its_meaning(api, small, page, tiny_t2v):
    _, _, folder = small
    program = (
        "from flows.on_prefect.nightly import deployment_of; import sys;"
        "print(deployment_of(sys.argv[1:], name='form', cron='0 3 * * *', timezone='UTC', every_s=None).apply())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", program, "sheet=sheet.csv", f"model={tiny_t2v}", *TINY, "store=store"],
        cwd=folder, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    deployment = said.stdout.split()[-1]
    schema = api.ask(f"/deployments/{deployment}")["parameter_openapi_schema"]["properties"]
    assert set(schema) == {"sheet", "store", "model", "max_failures", "overrides"}
    page.goto(f"{api.ui_url}/deployments/deployment/{deployment}/run")
    for name, field in schema.items():
        assert field["description"], f"{name} has no description"
        # What stands in backticks is shown as code, in an element of its own.
        page.get_by_text(field["description"].split("`")[0].strip()).first.wait_for()
