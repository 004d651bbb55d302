"""`headstart inflection`: measured once, kept, used by start_step=auto."""

import json
from dataclasses import replace

import pytest

import flows
from tasks.errors import PlanError

# The demo model: on random weights a prompt changes nothing, and a study says so.
DEMO = ["sheet=sheet.csv", "store=store", "schedule.num_inference_steps=4", "server=none"]
FEW = ["inflection.pairs=2", "inflection.tails=[exact,1]", "--force"]
SHEET = """identity,prompt,base_prompt,seed
star,a red star moves to the left,a red star stands still,1
star,a red star grows,a red star stands still,1
heart,a blue heart moves up,a blue heart stands still,2
"""


def test_a_study_is_measured_once_and_its_answer_is_used(bench):
    (bench.folder / "sheet.csv").write_text(SHEET)
    bench.settings = DEMO
    bar = ["inflection.follow=0.1", "inflection.detail=0.1"]
    first = bench.run("inflection", *FEW, *bar, "--json")
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    # k = 0..2 exact, and in one step where more are left, from the snapshot and from the line; their controls.
    names = [line["name"] for line in record["lines"]]
    assert names == [
        "k0 exact", "k0 in 1", "k0 in 1 g2.5", "k0 line in 1", "k0 line in 1 g2.5",
        "k1 exact", "k1 in 1", "k1 in 1 g2.5", "k1 line in 1", "k1 line in 1 g2.5", "k2 exact",
        "scratch 1", "scratch 2", "scratch 3",
    ]  # fmt: skip
    assert {pair["identity"] for pair in record["pairs"]} == {"star", "heart"}

    again = bench.run("inflection", *FEW, *bar)
    assert again.returncode == 0, again.stderr
    study = next((bench.folder / "store" / "batches").glob("inflection-*"))
    assert (study / "inflection.html").read_text().count("<svg") == 3
    assert "dvice:" in again.stdout

    # What the weights say may change with them; that it is used may not.
    advice = {
        "start_step": 1,
        "tail": 1,
        "start": "line",
        "guidance": 3.0,
        "steps": 1,
        "certainty": 1.0,
        "start_steps": [1, 1],
        "pays": True,
        "why": "",
    }
    (study / "inflection.json").write_text(json.dumps(record | {"advice": advice}))
    planned = json.loads(bench.run("plan", "--json").stdout)
    assert (planned["start_step"], planned["start"]) == (1, "line")
    assert {row["label"].partition(" ")[2] for row in planned["rows"]} == {"k1 line in 1"}
    assert {row["guidance"] for row in planned["rows"]} == {3.0}
    assert "measured by `headstart inflection`" in planned["start_step_from"]
    # Another guidance is another study.
    other = json.loads(bench.run("plan", "guidance=2", "--json").stdout)
    assert "measured by" not in other["start_step_from"]


def test_prompts_that_change_nothing_are_named_and_nothing_is_advised(bench):
    bench.write_sheet(["fox"], ["runs"])
    result = bench.run("inflection", "inflection.tails=[exact]", "server=none")
    assert result.returncode == 0, result.stderr
    assert "No advice: no prompt changed anything, even in a full run" in result.stdout
    assert "Left out, because the prompt changes nothing even in a full run: fox/" in result.stdout
    assert "rule of thumb" in bench.run("plan").stdout


@pytest.mark.slow
def test_a_stopped_study_goes_on_with_the_pairs_that_it_lacks(tiny_folder, tmp_path, monkeypatch):

    from flows.graph.run import Means
    from flows.graph.study import prepare_study, run_study
    from flows.runners.threads import ThreadRunner
    from tasks.making.devices import DevicePool

    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\nowl,an owl hoots,an owl\n")
    overrides = [
        f"sheet={sheet}", f"model={tiny_folder}", "model.height=32", "model.width=32", "model.frames=5",
        "schedule.num_inference_steps=4", f"store={tmp_path / 'store'}", "inflection.pairs=2", "inflection.tails=[exact]",
    ]  # fmt: skip
    study = prepare_study(overrides)
    means = lambda: Means(make_runner=lambda: ThreadRunner(1))  # noqa: E731
    run_study(replace(study, pairs=study.pairs[:1]), means())

    leases = []
    lease = DevicePool.lease
    monkeypatch.setattr(DevicePool, "lease", lambda self, *more: leases.append(1) or lease(self, *more))
    found = run_study(prepare_study(overrides), means())
    assert len(found.record["pairs"]) == 2
    assert len(leases) == 1
    run_study(prepare_study(overrides), means())
    assert len(leases) == 1


def test_what_cannot_be_studied_is_said_before_anything_runs(bench):
    bench.write_sheet(["fox"], ["runs"])
    late = bench.run("inflection", "inflection.start_steps=[1,3]", "server=none")
    assert late.returncode == 2
    assert "inflection.start_steps has [3], past the last step to start from; give 0..2" in late.stderr
    nothing = bench.run("inflection", "inflection.starts=[line]", "inflection.tails=[exact]", "server=none")
    assert nothing.returncode == 2
    assert "leave nothing to try" in nothing.stderr
    none = bench.run("inflection", "inflection.tails=[]", "server=none")
    assert none.returncode == 2
    assert "inflection.tails" in none.stderr


def test_find_inflection_is_a_function_and_a_flow(tmp_path, tiny_folder, monkeypatch, prefect_server):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    sheet = tmp_path / "s.csv"
    sheet.write_text("identity,prompt,base_prompt\nfox,a fox runs,a fox\n")
    more = [
        f"model={tiny_folder}",
        "model.height=32",
        "model.width=32",
        "model.frames=5",
        f"store={tmp_path / 'store'}",
    ]
    more += ["schedule.num_inference_steps=3", "inflection.tails=[exact]"]
    found = flows.find_inflection(str(sheet), overrides=more)
    names = ["k0 exact", "k0 exact g3", "k1 exact", "k1 exact g3", "scratch 1", "scratch 2"]
    assert list(found.record["pairs"][0]["settings"]) == names

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
    study = next(run for run in runs if run.name == "inflection of s.csv")
    assert study.state_name == "Completed"


def test_from_few_pairs_nothing_is_said_of_certainty_and_nothing_kept_unless_told_to(bench):
    (bench.folder / "sheet.csv").write_text(SHEET)
    bench.settings = DEMO
    few = ["inflection.pairs=1", "inflection.tails=[exact]", "inflection.follow=0.1", "inflection.detail=0.1"]
    result = bench.run("inflection", *few, "guidance=3")
    assert result.returncode == 0, result.stderr
    assert "resamples" not in result.stdout
    assert "Not kept for start_step=auto: measure 5 pairs or more, or add --force" in result.stdout
    study = next((bench.folder / "store" / "batches").glob("inflection-*"))
    assert not (study / "inflection.json").exists()
    page = (study / "inflection.html").read_text()
    assert "re-spaced tail" not in page, "the legend names only what is drawn"
    assert "resamples" not in page
    assert "measured by" not in bench.run("plan", "guidance=3").stdout
    forced = bench.run("inflection", *few, "guidance=3", "--force")
    assert (study / "inflection.json").exists(), forced.stdout


def test_a_start_step_that_no_tail_can_try_is_told(bench):
    bench.write_sheet(["fox"], ["runs"])
    result = bench.run("inflection", "inflection.start_steps=[0,2]", "inflection.tails=[1]", "server=none")
    assert result.returncode == 2
    assert "inflection.start_steps=[2] cannot be tried" in result.stderr


def test_variants_of_another_guidance_are_measured_against_full_runs_of_the_usual_one(tmp_path, monkeypatch):
    from flows.graph.run import Means
    from flows.graph.study import prepare_study, run_study
    from flows.runners.threads import ThreadRunner
    from prior_engine import Engine

    told = []

    def spied(name, place):
        plain = getattr(Engine, name)

        def spying(self, *given, **named):
            told.append((name, given[place].prompt, given[place].guidance))
            return plain(self, *given, **named)

        monkeypatch.setattr(Engine, name, spying)

    for name, place in (("record", 1), ("scratch", 1), ("resume", 2)):
        spied(name, place)
    (tmp_path / "sheet.csv").write_text(SHEET)
    lines = [f"sheet={tmp_path / 'sheet.csv'}", f"store={tmp_path / 'store'}", "schedule.num_inference_steps=4"]
    few = ["inflection.pairs=1", "inflection.start_steps=[1]", "inflection.tails=[1]", "inflection.starts=[line]"]
    study = prepare_study([*lines, *few, "server=none", "model.guidance=4", "model.variant_guidance=2.5"])
    run_study(study, Means(make_runner=lambda: ThreadRunner(1)))
    prompt = study.pairs[0].variant.conditioning.prompt
    # What asks the model which prompt it sees is told without guidance.
    assert {(name, guidance) for name, said, guidance in told if said == prompt and guidance != 1.0} == {
        ("scratch", 4.0),  # the full run, and the control of as many steps
        ("resume", 4.0),
        ("resume", 2.5),
    }
    assert {guidance for name, _, guidance in told if name == "record"} == {4.0}


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "sheet.csv").write_text(SHEET)
    return [f"sheet={tmp_path / 'sheet.csv'}", f"store={tmp_path / 'store'}", "server=none"]


def guidances_of(study):
    return list(dict.fromkeys(trial.guidance for trial in study.trials))


def test_the_guidances_that_are_tried(lines):
    from flows.graph.study import prepare_study

    assert guidances_of(prepare_study(lines)) == [None, 2.5]
    assert guidances_of(prepare_study([*lines, "model.variant_guidance=null", "model.guidance=6"])) == [None, 4.0]
    assert guidances_of(prepare_study([*lines, "inflection.guidances=[3,2]"])) == [None, 3.0, 2.0]
    assert guidances_of(prepare_study([*lines, "inflection.guidances=[]"])) == [None]
    # Without guidance there is none to lessen, and what is asked for is what is meant.
    assert guidances_of(prepare_study([*lines, "model.guidance=1", "model.variant_guidance=null"])) == [None]
    assert guidances_of(prepare_study([*lines, "guidance=3"])) == [None]
    with pytest.raises(PlanError, match=r"inflection.guidances=\[2.0\] cannot be tried: guidance is 3, as the setting"):
        prepare_study([*lines, "guidance=3", "inflection.guidances=[2]"])


def test_a_study_costs_no_more_than_it_may(lines):
    from flows.graph.study import prepare_study

    whole = prepare_study(lines)
    assert {trial.start_step for trial in whole.trials} == {None, *range(9)}
    bounded = prepare_study([*lines, "schedule.num_inference_steps=30", "inflection.guidances=[3,2.5,2]"])
    assert 400 < sum(trial.forwards(4.0) for trial in bounded.trials) <= 1000
    starts = sorted({trial.start_step for trial in bounded.trials} - {None})
    assert starts == list(range(0, 29, starts[1]))
    with pytest.raises(PlanError, match=r"would cost \d+ forwards of the model, and inflection.max_forwards allows 50"):
        prepare_study([*lines, "inflection.start_steps=[1,2,3]", "inflection.max_forwards=50"])


def test_an_earlier_study_of_one_guidance_is_still_known(lines):
    from flows.prepare import prepare
    from tasks.planning.advice import RECORD, study_name

    prepared = prepare(lines)
    once = prepared.settings.model_copy(update={"guidance": 2.5})
    advice = {
        "start_step": 5,
        "tail": 2,
        "start": "line",
        "steps": 2,
        "certainty": 1.0,
        "start_steps": [5, 5],
        "pays": True,
    }
    record = json.dumps({"advice": advice | {"why": ""}}).encode()
    prepared.store.put_batch_file(study_name(once, prepared.plan.model), RECORD, record)
    for row in prepare(lines).plan.variants:
        assert (row.way.start_step, row.way.tail, row.conditioning.guidance) == (5, 2, 2.5)
