"""The flows as functions: for notebooks and scripts."""

import pytest

import flows

pytestmark = pytest.mark.process  # ffmpeg
TINY = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4"]


def settings(tiny_folder, folder):
    return [f"model={tiny_folder}", *TINY, f"store={folder / 'store'}", "server=none"]


def test_priors_first_and_variants_later(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\nfox,a fox sits,a fox\n")
    overrides = settings(tiny_folder, tmp_path)

    early = flows.infer_from_prior(str(sheet), overrides=overrides)
    assert early.done == 0
    assert all("record it first: headstart run --only priors" in row.error for row in early.failed)

    priors = flows.generate_prior(str(sheet), overrides=overrides)
    assert (priors.priors, priors.steps_run) == (1, 4)

    variants = flows.infer_from_prior(str(sheet), overrides=overrides)
    # Start after step 2 of 4 by the rule of thumb: one step each, and no prior among them.
    assert (variants.done, variants.steps_run, variants.failed) == (2, 2, ())

    again = flows.render_sheet(str(sheet), overrides=overrides)
    assert (again.cached, again.steps_run) == (2, 0)
    assert flows.maintain_store(str(tmp_path / "store")).report.ok


def test_the_second_time_nothing_is_denoised(tmp_path, tiny_folder, monkeypatch):
    from diffusers import WanTransformer3DModel

    calls = []
    plain = WanTransformer3DModel.forward
    monkeypatch.setattr(
        WanTransformer3DModel, "forward", lambda self, *a, **named: calls.append(1) or plain(self, *a, **named)
    )
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    lines = [f"{name},a {name} does {number},a {name}" for name in ("fox", "owl") for number in range(3)]
    sheet.write_text("\n".join(["identity,prompt,base_prompt", *lines]) + "\n")
    overrides = [*settings(tiny_folder, tmp_path), "guidance=1"]
    assert flows.render_sheet(str(sheet), overrides=overrides).done == 6
    # Two priors of four steps, six variants of one.
    assert len(calls) == 2 * 4 + 6
    calls.clear()
    again = flows.render_sheet(str(sheet), overrides=overrides)
    assert (again.cached, again.done, calls) == (6, 0, [])


def test_a_prior_that_fails_is_told_by_name_and_reason(tmp_path, tiny_folder, monkeypatch):
    from flows.closing import batch_closing, counts
    from flows.prepare import prepare
    from prior_engine import Engine
    from prior_engine.errors import NonFiniteLatentsError

    def record(*_, **__):
        raise NonFiniteLatentsError("NaN in the latents after step 2")

    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\nowl,an owl hoots,an owl\n")
    overrides = settings(tiny_folder, tmp_path)
    prepared = prepare([f"sheet={sheet}", *overrides], "priors")
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "record", record)
        failed = flows.generate_prior(str(sheet), overrides=overrides)
    said = batch_closing(prepared, failed, None, overrides)
    assert "0 priors recorded, 0 already there, 2 failed" in said
    assert "Failed:  prior of fox: NaN in the latents after step 2" in said
    assert "headstart run --only priors" in said
    done = flows.generate_prior(str(sheet), overrides=overrides)
    assert counts(prepared, done) == "2 priors recorded, 0 already there, 0 failed"


def test_care_of_a_damaged_store_says_so_and_changes_nothing(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\n")
    flows.render_sheet(str(sheet), overrides=settings(tiny_folder, tmp_path))
    well = flows.maintain_store(str(tmp_path / "store"), delete=True)
    assert "2 objects, 0 problems; " in well.summary
    assert "manifest files merged" in well.summary
    next((tmp_path / "store" / "variants").glob("*/*/*/video.mp4")).write_bytes(b"spoilt")
    ill = flows.maintain_store(str(tmp_path / "store"), delete=True)
    assert not ill.report.ok
    assert (ill.compaction, ill.collected) == (None, None)
    assert "nothing was merged or removed" in ill.summary


def test_the_care_of_a_store_is_a_flow(tmp_path, tiny_folder, monkeypatch, prefect_server):
    from flows.on_prefect.care import maintain_store

    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\n")
    flows.render_sheet(str(sheet), overrides=settings(tiny_folder, tmp_path))
    state = maintain_store(store=str(tmp_path / "store"), return_state=True)
    assert state.is_completed(), state
    assert "2 objects, 0 problems" in state.message
