"""Rows without a prior: where that is asked for, or where a prior would cost more steps than it saves."""

import json

import pytest

from flows.prepare import prepare
from tests.test_flows.conftest import Bench

LINES = ["fox,alone,a fox runs,a fox,1", "owl,first,an owl hoots,an owl,2", "owl,second,an owl sits,an owl,2",
         "owl,third,an owl flies,an owl,2"]  # fmt: skip


def write(bench: Bench, lines=LINES, header="identity,id,prompt,base_prompt,seed"):
    (bench.folder / "sheet.csv").write_text("\n".join([header, *lines]) + "\n")


def planned(bench, *more):
    return json.loads(bench.run("plan", "--json", *more).stdout)


def test_a_prior_that_costs_more_than_it_saves_is_told_by_plan_and_run(bench):
    write(bench)
    told = "note: identity 'fox' costs 5 steps with a prior, and full runs of the same rows would cost 4"
    assert told in bench.run("plan").stderr
    assert told in bench.run("run", "server=none").stderr
    # What is made costs nothing any more.
    assert told not in bench.run("plan").stderr


def test_auto_runs_in_full_what_is_cheaper_so_and_nothing_twice(bench):
    write(bench)
    plan = planned(bench, "prior=auto")
    # One full run of four steps for the fox; for the owl a prior and three tails of one step.
    assert plan["steps_to_run"] == 4 + 4 + 3
    assert {row["id"]: row["start"] for row in plan["rows"]}["alone"] == "noise"
    first = bench.run("run", "server=none", "prior=auto", "batch=auto")
    assert first.returncode == 0, first.stderr
    assert "Steps:   11 run" in first.stdout
    assert "Nothing to do" in bench.run("run", "server=none", "prior=auto").stdout
    page = (bench.folder / "store" / "batches" / "auto" / "report.html").read_text()
    assert "none: these rows are full runs" in page
    assert "a full run, guidance" in page
    rows = {row["row_id"]: row for row in bench.store().manifest().to_pylist() if row["kind"] == "variants"}
    assert (rows["alone"]["start_step"], rows["alone"]["parent_key"], rows["alone"]["steps_run"]) == (None, None, 4)


def test_a_full_run_has_the_bits_of_a_prior_of_its_prompt(bench):
    write(bench, ["fox,full,a fox runs,a fox,7"])
    assert bench.run("run", "server=none", "prior=off").returncode == 0
    store = bench.store()
    (key,) = store.known("variants")
    assert store.known("priors") == set()
    write(bench, ["fox,same,a fox runs,a fox runs,7"])
    assert bench.run("run", "--only", "priors", "server=none").returncode == 0
    (prior,) = store.known("priors")
    full, _ = store.read_tensors(("variants", key), "latents.safetensors")
    recorded, _ = store.read_tensors(("priors", prior), "step_0003.safetensors")
    assert full["latents"].equal(recorded["latents"])


def test_a_sheet_says_it_for_each_identity(bench):
    write(bench, [f"{line},{'off' if line.startswith('owl') else ''}" for line in LINES],
          "identity,id,prompt,base_prompt,seed,prior")  # fmt: skip
    starts = {row["id"]: row["start"] for row in planned(bench)["rows"]}
    assert starts == {"alone": "snapshot", "first": "noise", "second": "noise", "third": "noise"}


def test_a_row_may_start_from_a_full_run(bench):
    write(bench, ["fox,whole,a fox runs,a fox,1,,off", "fox,child,a fox sits,a fox,1,whole,off"],
          "identity,id,prompt,base_prompt,seed,parent,prior")  # fmt: skip
    made = bench.run("run", "server=none", "start_step=2")
    assert made.returncode == 0, made.stderr
    assert "2 variants made" in made.stdout
    assert "Steps:   5 run" in made.stdout


@pytest.mark.parametrize(
    ("more", "prior", "variant", "own", "full"),
    [
        ([], 4.0, 4.0, 7.0, 4.0),
        (["model.variant_guidance=2.5"], 4.0, 2.5, 7.0, 4.0),
        (["model.variant_guidance=2.5", "guidance=3"], 3.0, 3.0, 7.0, 3.0),
        (["model.variant_guidance=2.5", "prior.guidance=6"], 6.0, 2.5, 7.0, 4.0),
        (["model.variant_guidance=0"], 4.0, 0.0, 7.0, 4.0),
    ],
)
def test_variants_may_have_a_guidance_that_neither_priors_nor_full_runs_have(more, prior, variant, own, full, tmp_path):
    rows = [
        "identity,prompt,guidance,prior",
        "fox,a red star moves up,,on",
        "fox,a red star grows,7,on",
        "cat,a red star,,off",
    ]
    (tmp_path / "s.csv").write_text("\n".join(rows) + "\n")
    told = [f"sheet={tmp_path / 's.csv'}", f"store={tmp_path / 'store'}", "model=demo", "model.variant_guidance=null"]
    plan = prepare([*told, *more]).plan
    assert plan.priors_to_do[0].conditioning.guidance == prior
    assert [row.conditioning.guidance for row in plan.variants] == [variant, own, full]
