"""Stores written by earlier releases, kept for good: today's code reads them, proves them and goes on from them."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import flows
from prior_store import Store, recipe_key
from prior_store.layout import KINDS
from tasks.errors import PlanError

OLD = Path(__file__).parent / "old_stores"
SETTINGS = [
    "model=custom", "model.source=model", "model.height=32", "model.width=32", "model.frames=5",
    "schedule.num_inference_steps=5", "prior.keep=[1,2]", "server=none", "store=store", "video.fps=8", "guidance=60",
]  # fmt: skip


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the store and its model, with the working folder where they were made."""
    shutil.copytree(OLD / "2026-11", tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    return Store.open("store", create=False)


@pytest.fixture
def work(monkeypatch):
    """What a model is asked for: its loads, and its denoising calls."""
    from diffusers import WanTransformer3DModel

    seen = []
    load, forward = WanTransformer3DModel.from_pretrained, WanTransformer3DModel.forward
    monkeypatch.setattr(
        WanTransformer3DModel, "from_pretrained", lambda *a, **named: seen.append("load") or load(*a, **named)
    )
    monkeypatch.setattr(
        WanTransformer3DModel, "forward", lambda *a, **named: seen.append("forward") or forward(*a, **named)
    )
    return seen


def test_it_is_whole_and_nothing_about_it_is_mended(old):
    before = old.files.find("")
    report = old.verify()
    assert report.problems == ()
    assert (report.objects, report.files, report.rows, report.embeddings, report.foreign) == (6, 22, 7, 7, ())
    assert old.repair().actions == ()
    assert old.files.find("") == before


def test_it_is_listed(old):
    table = old.manifest()
    rows = table.select(["kind", "identity", "status", "start_step", "steps_run", "batch"]).to_pylist()
    assert sorted(tuple(str(value) for value in row.values()) for row in rows) == [
        ("priors", "blue", "done", "None", "5", "first"),
        ("priors", "red", "done", "None", "5", "first"),
        ("variants", "blue", "done", "1", "3", "first"),
        ("variants", "red", "done", "2", "2", "first"),
        ("variants", "red", "done", "2", "2", "first"),
        ("variants", "red", "done", "2", "2", "later"),
        ("variants", "red", "failed", "1", "0", "later"),
    ]
    assert old.list_batches() == ["first", "inflection-467b08aee4f124b52662", "later"]
    assert [json.loads(old.read_batch_file(name, "plan.json"))["batch"] for name in ("first", "later")]


def test_every_object_is_read_and_named_by_its_recipe(old):
    for kind in KINDS:
        for key in old.known(kind):
            commit = old.commit_of(kind, key)
            assert recipe_key(commit.recipe) == key
            for name in commit.files:
                if name.endswith(".safetensors"):
                    tensors, _ = old.read_tensors(commit, name)
                    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
                else:
                    assert old.read_file(commit, name)


def test_the_same_sheet_takes_no_step_and_loads_no_model(old, work):
    result = flows.render_sheet("sheet.csv", overrides=[*SETTINGS, "start=snapshot"])
    assert (result.cached, result.done, result.steps_run, result.failed) == (3, 0, 0, ())
    assert work == []


@pytest.mark.process
def test_what_failed_then_is_tried_again_and_only_that(old, work, monkeypatch):
    # The release that made it looked at a LoRA file only when it was put on.
    monkeypatch.setattr("prior_engine.requests.conditioning.check_lora", lambda file, path: None)
    result = flows.render_sheet("later.csv", overrides=[*SETTINGS, "start=line"])
    assert (result.cached, result.done, result.steps_run, len(result.failed)) == (1, 0, 0, 1)
    assert "forward" not in work


def test_what_failed_then_is_refused_now_before_anything_runs(old, work):
    with pytest.raises(PlanError, match=r"later\.csv:3, column lora: .*broken\.safetensors' cannot be read"):
        flows.render_sheet("later.csv", overrides=[*SETTINGS, "start=line"])
    assert work == []


@pytest.mark.process
def test_new_rows_start_from_the_old_snapshots(old, work):
    before = old.known("priors")
    Path("new.csv").write_text(
        "identity,prompt,base_prompt,seed,start_step,tail\n"
        "red,a red star looks up,a red star stays still,7,2,exact\n"
        "blue,a blue circle hides,a blue circle stays still,11,1,2\n"
    )
    result = flows.render_sheet("new.csv", overrides=[*SETTINGS, "start=snapshot"])
    assert (result.cached, result.done, result.steps_run, result.failed) == (0, 2, 2 + 2, ())
    # With guidance, each step asks the model twice: with the prompt and without.
    assert work.count("forward") == 2 * (2 + 2)
    assert old.known("priors") == before
    assert len(old.known("variants")) == 4 + 2
    assert old.verify().ok


def test_the_study_made_then_decides_where_to_start_now(old):
    result = flows.render_sheet("sheet.csv", overrides=[*SETTINGS, "start=snapshot"])
    start = json.loads(old.read_batch_file(result.batch, "report.json"))["start_step"]
    assert (start["step"], start["from"].startswith("measured by `headstart inflection`")) == (2, True)


def test_care_goes_on(old):
    done = {kind: old.known(kind) for kind in KINDS}
    assert old.compact(grace_s=0).rows == 7
    other = Store.open("elsewhere")
    taken = other.import_from(old)
    assert (taken.priors, taken.variants, taken.embeddings, taken.refused) == (2, 4, 7, ())
    assert {kind: other.known(kind) for kind in KINDS} == done
    assert old.verify().ok
    assert other.verify().ok
