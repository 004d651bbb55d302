"""The flows as functions: for notebooks and scripts."""

import flows

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
