"""`headstart calibrate`: measured once, kept, and taken by the cache `mag` when a batch is planned."""

import json
import threading
from dataclasses import replace

import pytest

from flows.graph.calibration import prepare_calibration, run_calibration
from flows.graph.run import Means
from flows.prepare import prepare
from flows.runners.threads import ThreadRunner
from prior_engine import Engine, ModelSpec
from tasks.errors import InterruptedBatchError, PlanError
from tests.test_flows.conftest import TINY, sheet_text

MAG = ["accel.cache=mag", "accel.cache_options.threshold=0.9", "start_step=0", "tail=exact"]


@pytest.fixture
def lines(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    (tmp_path / "s.csv").write_text(sheet_text(["fox", "owl"], ["runs", "sits"]))
    return [f"sheet={tmp_path / 's.csv'}", f"model={tiny_folder}", *TINY, f"store={tmp_path / 'store'}", "server=none"]


@pytest.fixture
def runs(monkeypatch):
    """Every run that measures."""
    seen = []
    plain = Engine.calibrate

    def spying(self, *given, **named):
        seen.append(given)
        return plain(self, *given, **named)

    monkeypatch.setattr(Engine, "calibrate", spying)
    return seen


def means(stop=None):
    return Means(make_runner=lambda: ThreadRunner(1), stop=stop or threading.Event())


def test_ratios_are_the_mean_over_full_runs_of_a_few_rows(lines, runs, tiny_folder):
    calibration = prepare_calibration([*lines, "calibration.rows=3", "model.variant_guidance=2"])
    found = run_calibration(calibration, means())
    engine = Engine(ModelSpec(source=str(tiny_folder), device="cpu"))
    each = [engine.calibrate(*one)[1] for one in list(runs)]
    assert found["ratios"] == pytest.approx([sum(of_step) / 3 for of_step in zip(*each, strict=True)])
    assert len(found["ratios"]) == 4
    told = [conditioning for _, conditioning, _ in runs[:3]]
    # Rows of as many identities as there are, told as full runs are.
    assert {one.guidance for one in told} == {calibration.prepared.settings.model.guidance}
    assert {one.prompt.split()[1] for one in told} == {"fox", "owl"}


def test_the_cache_mag_takes_what_the_store_has(lines):
    with pytest.raises(PlanError, match=r"setting accel\.cache: the cache 'mag' needs .* `headstart calibrate`"):
        prepare([*lines, *MAG])
    # What is to be measured for the cache is measured without it.
    found = run_calibration(prepare_calibration([*lines, *MAG]), means())
    planned = prepare([*lines, *MAG])
    expected = {"threshold": 0.9, "mag_ratios": found["ratios"]}
    assert {json.dumps(row.recipe["cache"]["options"], sort_keys=True) for row in planned.plan.variants} == {
        json.dumps(expected, sort_keys=True)
    }
    assert planned.settings.accel.cache_options == expected
    # Another schedule, other guidance: other ratios.
    for other in ("schedule.num_inference_steps=5", "guidance=2"):
        with pytest.raises(PlanError, match="headstart calibrate"):
            prepare([*lines, *MAG, other])
    # What is said goes before what was measured.
    said = prepare([*lines, *MAG, "accel.cache_options.mag_ratios=[1,1,1,1]"])
    assert said.settings.accel.cache_options["mag_ratios"] == [1, 1, 1, 1]
    keys = [{row.key for row in one.plan.variants} for one in (planned, said, prepare(lines))]
    assert not keys[0] & keys[1]
    assert not keys[0] & keys[2]
    # Named in the settings, they are what they are from the store.
    named = prepare([*lines, *MAG, f"accel.cache_options.mag_ratios={json.dumps(found['ratios'])}"])
    assert {row.key for row in named.plan.variants} == keys[0]
    # And the plan of priors does not know them.
    assert {prior.key for prior in planned.plan.priors} == {prior.key for prior in prepare(lines).plan.priors}


def test_a_stopped_calibration_goes_on_with_the_rows_that_it_lacks(lines, runs, monkeypatch):
    calibration = prepare_calibration(lines)
    assert len(calibration.rows) == 3
    stop = threading.Event()
    plain, put = type(calibration.store).put_batch_file, calibration.store.put_batch_file

    def put_and_stop(batch, name, content):
        put(batch, name, content)
        if name.startswith("row-"):
            stop.set()

    monkeypatch.setattr(type(calibration.store), "put_batch_file", lambda _, *given: put_and_stop(*given))
    with pytest.raises(InterruptedBatchError, match="run the same command again"):
        run_calibration(calibration, means(stop))
    monkeypatch.setattr(type(calibration.store), "put_batch_file", plain)
    assert len(runs) == 1
    with pytest.raises(PlanError, match="headstart calibrate"):
        prepare([*lines, *MAG])
    assert len(run_calibration(prepare_calibration(lines), means())["rows"]) == 3
    assert len({(asked[0].seed, asked[1].prompt) for asked in runs}) == len(runs) == 3


def test_what_is_measured_is_not_measured_again(lines, runs):
    calibration = prepare_calibration(lines)
    run_calibration(replace(calibration, rows=calibration.rows[:1]), means())
    assert len(runs) == 1
    again = prepare_calibration(lines)
    assert not again.nothing_to_do
    whole = run_calibration(again, means())
    assert len(runs) == 3
    last = prepare_calibration(lines)
    assert last.nothing_to_do
    assert run_calibration(last, means()) == whole
    assert len(runs) == 3
    assert len(whole["rows"]) == 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["accel.merge_guidance=true"], "accel.merge_guidance"),
        (["calibration.rows=0"], r"calibration\.rows"),
    ],
)
def test_what_cannot_be_calibrated_is_said_before_anything_runs(lines, runs, more, message):
    from tasks.errors import BatchError

    with pytest.raises(BatchError, match=message):
        prepare_calibration([*lines, *more])
    assert not runs


def test_the_command_says_what_it_measured_and_that_it_is_there(bench):
    bench.write_sheet(["fox"], ["runs", "sits"])
    refused = bench.run("plan", *MAG)
    assert refused.returncode == 2
    assert "measure them first, with the same sheet and settings: `headstart calibrate`" in refused.stderr
    first = bench.run("calibrate", *MAG)
    assert first.returncode == 0, first.stderr
    assert "[MagCache]" not in first.stdout
    assert "Ratios of 4 steps, measured in full runs of 2 rows of sheet.csv:\n  1.0000" in first.stdout
    assert "From now on accel.cache=mag uses them" in first.stdout
    again = bench.run("calibrate", *MAG)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Nothing to do: the full runs of 2 rows of sheet.csv were measured before.")
    assert len(json.loads(bench.run("calibrate", "--json").stdout)["ratios"]) == 4
    made = bench.run("run", *MAG, "server=none")
    assert made.returncode == 0, made.stderr
    assert "2 variants made" in made.stdout
    assert bench.run("run", *MAG, "server=none").stdout.startswith("Nothing to do")


def test_an_interrupted_command_says_how_far_it_came(lines, monkeypatch, capsys):
    from flows.cli import study

    def broken_off(*_):
        raise InterruptedBatchError("1 of 3 rows are measured, and kept")

    monkeypatch.setattr(study, "launch_calibration", broken_off)
    assert study.calibrate(lines, as_json=False, quiet=True) == 130
    assert "interrupted: 1 of 3 rows are measured, and kept" in capsys.readouterr().err


def test_rows_with_a_guidance_of_their_own_are_left_out(lines, tmp_path):
    (tmp_path / "s.csv").write_text(
        "identity,prompt,base_prompt,guidance\nfox,a fox runs,a fox,2\nfox,a fox sits,a fox,\n"
    )
    (row,) = prepare_calibration(lines).rows
    assert row.variant.conditioning.prompt == "a fox sits"
    (tmp_path / "s.csv").write_text("identity,prompt,base_prompt,guidance\nfox,a fox runs,a fox,2\n")
    with pytest.raises(PlanError, match="no row of s.csv can be measured with guidance 5; set guidance="):
        prepare_calibration(lines)
