"""Three rows of a hundred cannot be made, each for another reason: the others are, and a later run mends just these."""

import contextlib
import errno

import pytest
import torch
from safetensors.torch import save_file

import flows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROWS = 100
TINY = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4"]


@pytest.fixture
def poisoned(tmp_path, tiny_t2v, prefect_server):
    lines = [f"row{number},fox,a fox does thing {number},a fox," for number in range(ROWS)]
    # Weights that are well when the batch is planned, and spoilt before they are used.
    save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 24)}, tmp_path / "style.safetensors")
    lines[40] = "row40,fox,a fox does thing 40,a fox,style.safetensors"
    (tmp_path / "s.csv").write_text("\n".join(["id,identity,prompt,base_prompt,lora", *lines]) + "\n")
    overrides = [f"model={tiny_t2v}", *TINY, f"store={tmp_path / 'store'}", "retries=1", "batch=poison"]
    return tmp_path, overrides


@contextlib.contextmanager
def spoilt_after_the_plan(file, monkeypatch):
    """Let the file be another by the time that the prior is recorded."""
    from prior_engine import Engine

    plain = Engine.record

    def record(self, *given, **named):
        file.write_bytes(b"not what it was")
        return plain(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "record", record)
        yield


@contextlib.contextmanager
def nan_for(prompt, monkeypatch):
    """Let the model answer NaN while this prompt is walked."""
    import torch

    from prior_engine import Engine

    plain = Engine.resume

    def resume(self, snapshot, identity, conditioning, *more, **named):
        if conditioning.prompt != prompt:
            return plain(self, snapshot, identity, conditioning, *more, **named)
        self._components.need("transformer")
        spoilt = self._components.pipe.transformer.register_forward_hook(
            lambda _module, _inputs, output: (torch.full_like(output[0], float("nan")),)
        )
        try:
            return plain(self, snapshot, identity, conditioning, *more, **named)
        finally:
            spoilt.remove()

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "resume", resume)
        yield


@contextlib.contextmanager
def broken_storage_for(prompt, monkeypatch):
    """Let the disk fail for the files of one row."""
    from prior_store import Claim

    plain, tries = Claim.publish, []

    def publish(self, *, recipe, **more):
        if recipe["kind"] == "variant" and recipe["conditioning"]["prompt"] == prompt:
            tries.append(1)
            raise OSError(errno.EIO, "Input/output error")
        return plain(self, recipe=recipe, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Claim, "publish", publish)
        yield tries


def test_97_of_100_are_made_3_are_named_and_a_run_after_mending_makes_just_these(poisoned, monkeypatch):
    folder, overrides = poisoned
    sheet = str(folder / "s.csv")
    with (
        nan_for("a fox does thing 10", monkeypatch),
        spoilt_after_the_plan(folder / "style.safetensors", monkeypatch),
        broken_storage_for("a fox does thing 70", monkeypatch) as tries,
    ):
        first = flows.render_sheet(sheet, overrides=overrides)
    assert first.done == ROWS - 3
    failed = {row.id: row.error for row in first.failed}
    assert sorted(failed) == ["row10", "row40", "row70"]
    assert "NaN" in failed["row10"]
    assert "style.safetensors' is no longer the one that was planned with" in failed["row40"]
    assert "Input/output error" in failed["row70"]
    # Storage may come back, so it was tried again; what cannot change was not.
    assert len(tries) == 2

    assert flow_state("poison") == ("COMPLETED", "CompletedWithFailures")
    # Whoever looks there reads why, beside the task run that it is about.
    lines = log_of("poison")
    assert any("row10" in line.message and "NaN" in line.message and line.task_run_id for line in lines), lines
    report = (folder / "store" / "batches" / "poison" / "report.html").read_text()
    assert report.count('data-status="failed"') == 3

    # Mended: the model and the disk are well again, the row asks for no spoilt weights.
    text = (folder / "s.csv").read_text().replace(",style.safetensors", ",")
    (folder / "s.csv").write_text(text)
    second = flows.render_sheet(sheet, overrides=overrides)
    assert (second.done, second.cached, second.failed) == (3, ROWS - 3, ())
    # Another sheet by now, so another batch: the report of the first stands.
    assert second.batch == "poison-2"
    assert flow_state("poison-2") == ("COMPLETED", "Completed")
    assert (folder / "store" / "batches" / "poison" / "report.html").read_text() == report


def test_too_many_failures_end_the_batch_early(tmp_path, tiny_t2v, prefect_server, monkeypatch):
    from prior_engine import Engine
    from prior_engine.errors import NonFiniteLatentsError

    def resume(*_, **__):
        raise NonFiniteLatentsError("NaN appeared in the latents at step 3")

    monkeypatch.setattr(Engine, "resume", resume)
    rows = "\n".join(f"fox,a fox does thing {number},a fox" for number in range(30))
    (tmp_path / "s.csv").write_text(f"identity,prompt,base_prompt\n{rows}\n")
    overrides = [f"model={tiny_t2v}", *TINY, f"store={tmp_path / 'store'}", "max_failures=10%", "batch=hopeless"]
    result = flows.render_sheet(str(tmp_path / "s.csv"), overrides=overrides)
    assert result.given_up
    assert 3 < len(result.failed) < 30
    assert flow_state("hopeless") == ("FAILED", "Failed")


def flow_state(name):
    """Type and name of the state in which the latest flow run of this name ended, as the UI shows it."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])), sort=FlowRunSort.START_TIME_DESC
        )
    return runs[0].state.type.value, runs[0].state.name


def log_of(name):
    """The log lines of the latest flow run of this name, as the UI shows them."""
    from prefect import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterName,
        LogFilter,
        LogFilterFlowRunId,
    )  # fmt: skip

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[name])))
        return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])))
