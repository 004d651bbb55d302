"""The promises of a batch, on real processes: once, whatever happens on the way."""

import random
import re
import signal
import time

import pytest

PROMPTS = ["turns left", "turns right", "smiles"]


def test_the_same_sheet_again_does_nothing(bench):
    bench.write_sheet(["fox", "owl"], PROMPTS)
    first = bench.run("run", "server=none")
    assert first.returncode == 0, first.stderr
    assert "6 variants made" in first.stdout
    before = bench.latents()

    again = bench.run("run", "server=none")
    assert again.returncode == 0
    assert "Nothing to do: all 6 variants" in again.stdout
    assert bench.latents() == before


def test_only_what_is_missing_is_run(bench):
    bench.write_sheet(["fox"], PROMPTS[:1])
    assert bench.run("run", "server=none").returncode == 0
    before = bench.latents()
    bench.write_sheet(["fox"], PROMPTS[:2])
    second = bench.run("run", "server=none")
    assert "1 variants made, 1 already there" in second.stdout
    # One tail of the four-step walk; the prior was there.
    assert "Steps:   1 run" in second.stdout
    assert before.items() <= bench.latents().items()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_ten_moments_and_run_again_it_ends_the_same(bench, tmp_path_factory, tiny_folder, prepared):
    bench.write_sheet(["fox", "owl", "cat"], PROMPTS)
    calm = type(bench)(tmp_path_factory.mktemp("calm"), tiny_folder, prepared)
    calm.write_sheet(["fox", "owl", "cat"], PROMPTS)
    assert calm.run("run", "server=none").returncode == 0

    # A run writes about a hundred files; each kill waits for a few more than the last one left.
    chance = random.Random(20261121)
    for _ in range(10):
        process = bench.start("run", "server=none", "prior.lease_s=1")
        enough = bench.files() + chance.randint(1, 12)
        while process.poll() is None and bench.files() < enough:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "the sheet was done before ten kills; make it longer"
    assert len(bench.latents()) < 9
    last = bench.run("run", "server=none", "prior.lease_s=1")
    assert last.returncode == 0, last.stderr
    assert bench.latents() == calm.latents()
    store = bench.store()
    assert len(store.known("priors")) == 3
    rows = store.manifest(columns=["key", "status"])
    assert sorted(rows["status"].to_pylist()) == ["done"] * 12
    assert store.verify().ok
    again = bench.run("run", "server=none")
    assert "Nothing to do" in again.stdout


def test_two_runs_of_overlapping_sheets_make_each_prior_once(bench):
    bench.write_sheet(["fox", "owl"], PROMPTS)
    processes = [bench.start("run", "server=none") for _ in range(2)]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # What one has made the other has not: together they made each row once, and say so.
    made = [re.search(r"(\d+) variants made, (\d+) already there", out) for out, _ in outputs]
    assert sum(int(one[1]) for one in made) == 6, outputs
    assert [int(one[1]) + int(one[2]) for one in made] == [6, 6]
    assert all(err.count("is being made by") <= 8 for _, err in outputs), "a wait is told once"
    store = bench.store()
    for kind, count in (("priors", 2), ("variants", 6)):
        folders = list((bench.folder / "store" / kind).glob("*/*"))
        assert len(folders) == count
        # One attempt each: nobody began what the other was at.
        assert [len([path for path in folder.iterdir() if path.is_dir()]) for folder in folders] == [1] * count
        assert len(store.known(kind)) == count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_at_a_step_keeps_what_is_done_and_says_how_to_go_on(bench, number):
    bench.write_sheet(["fox", "owl", "cat", "dog"], [*PROMPTS, "nods", "waves", "bows"])
    # Steps enough that it is still at work when it is told to stop, also where this test has to wait for its turn.
    longer = ["server=none", "schedule.num_inference_steps=20"]
    process = bench.start("run", *longer)
    while not (bench.folder / "store" / "variants").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Interrupted with" in out
    assert "Continue with: headstart run" in out
    kept = bench.latents()
    assert bench.run("run", *longer).returncode == 0
    assert kept.items() <= bench.latents().items()
    assert len(bench.latents()) == 24


def test_bad_input_ends_with_2_and_runs_nothing(bench):
    (bench.folder / "sheet.csv").write_text("identity,prompt,start_step\nfox,runs,9\n")
    refused = bench.run("run", "server=none")
    assert refused.returncode == 2
    assert "start_step: 9 is past the last step to start from; give 0..2, the schedule has 4 steps" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (bench.folder / "store" / "priors").exists()
