"""A run over a store that a disk, or a hand, has damaged: it counts on nothing that it has not looked at.

What the store holds is read with pyarrow, json and hashlib alone.
"""

import hashlib
import json
import re
import subprocess

import pyarrow.parquet as pq
import pytest

import flows
from prior_store import Store
from tests.test_flows.conftest import TINY, sheet_text
from tests.test_store.clocks import OFFSETS, clock_off_by

pytestmark = pytest.mark.process
PROMPTS = ["turns left", "turns right"]
ROWS = 32


def objects(bench, kind):
    """Every committed object of a kind: its key, its record, the folder of its files."""
    found = {}
    for path in sorted((bench.folder / "store" / kind).glob("*/*/COMMIT.json")):
        record = json.loads(path.read_text())
        found[path.parent.name] = (record, path.parent / record["attempt"])
    return found


def is_whole(record, folder):
    return all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == info["sha256"]
        for name, info in record["files"].items()
    )


def rows(bench):
    """The row of each key that counts, by the rule of the documented format."""
    found = []
    for path in (bench.folder / "store" / "manifest").glob("*/[0-9]*.parquet"):
        found += pq.read_table(path, columns=["kind", "key", "status", "recorded_at"]).to_pylist()
    found.sort(key=lambda row: row["recorded_at"])
    removed = {row["key"]: row["recorded_at"] for row in found if row["status"] == "removed"}
    found = [row for row in found if row["key"] not in removed or row["recorded_at"] > removed[row["key"]]]
    return {row["key"]: row["status"] for row in sorted(found, key=lambda row: row["status"] == "done")}


def store(bench, verb):
    """`headstart store VERB`: what it says and what it remarks on."""
    process = bench._prepared.start(["store", verb, "store=store"], bench.folder, bench.environment)
    said, told = process.communicate()
    assert process.returncode == 0, told
    return said, told


@pytest.fixture
def made(bench):
    bench.write_sheet(["fox"], PROMPTS)
    ended = bench.run("run", "server=none")
    assert ended.returncode == 0, ended.stderr
    return bench


def test_damaged_videos_are_made_again_and_said(made):
    before = made.latents()
    (first, (_, cut)), (second, (_, lost)) = objects(made, "variants").items()
    video = cut / "video.mp4"
    video.write_bytes(video.read_bytes()[:-10])
    (lost / "latents.safetensors").unlink()
    kept = {path: path.read_bytes() for path in (*cut.iterdir(), *lost.iterdir())}

    again = made.run("run", "server=none")
    assert again.returncode == 0, again.stderr
    assert "2 variants made, 0 already there, 0 failed" in again.stdout
    assert again.stderr.count("is damaged and counts as missing") == 2
    assert f"video.mp4 has {video.stat().st_size} bytes where" in again.stderr
    assert "latents.safetensors was committed and is gone" in again.stderr
    now = objects(made, "variants")
    assert set(now) == {first, second}
    assert all(is_whole(*one) for one in now.values())
    assert {folder for _, folder in now.values()}.isdisjoint({cut, lost})
    assert made.latents() == before
    # What was damaged is where it was, for whoever wants to look at it.
    assert {path: path.read_bytes() for path in kept} == kept
    assert rows(made) == dict.fromkeys([*now, *objects(made, "priors")], "done")
    assert "Nothing to do" in made.run("run", "server=none").stdout


def test_a_prior_without_its_record_is_recorded_again_where_that_is_advised(made):
    before = made.latents()
    (prior,) = objects(made, "priors")
    (made.folder / "store" / "priors" / prior[:2] / prior / "COMMIT.json").unlink()
    made.write_sheet(["fox"], [*PROMPTS, "smiles"])

    refused = made.run("run", "server=none", "--only", "variants")
    assert refused.returncode == 1
    assert "record it first: headstart run --only priors" in refused.stdout
    advised = made.run("run", "server=none", "--only", "priors")
    assert advised.returncode == 0, advised.stderr
    assert "1 priors recorded" in advised.stdout
    last = made.run("run", "server=none", "--only", "variants")
    assert "1 variants made, 2 already there" in last.stdout
    assert before.items() <= made.latents().items()
    assert all(is_whole(*one) for kind in ("priors", "variants") for one in objects(made, kind).values())


def test_a_damaged_manifest_file_stops_no_run(made):
    attempts = {folder for kind in ("priors", "variants") for _, folder in objects(made, kind).values()}
    fragments = sorted((made.folder / "store" / "manifest" / "log").iterdir())
    for fragment in fragments:
        fragment.write_bytes(fragment.read_bytes()[:-40])
    made.write_sheet(["fox"], [*PROMPTS, "smiles"])

    ended = made.run("run", "server=none")
    assert ended.returncode == 0, ended.stderr
    assert "1 variants made, 2 already there" in ended.stdout
    assert f"note: manifest file manifest/log/{fragments[0].name} cannot be read" in ended.stderr
    assert "run `headstart store repair`" in ended.stderr
    assert attempts < {folder for kind in ("priors", "variants") for _, folder in objects(made, kind).values()}
    said, told = store(made, "ls")
    assert "3 of 3 rows" not in said  # the row of the prior is among those that nobody can read
    assert "cannot be read" in told
    store(made, "repair")
    assert made.store().verify().ok
    assert sorted(made.store().manifest()["status"].to_pylist()) == ["done"] * 4


def test_a_damaged_text_is_encoded_again(made):
    before = made.latents()
    texts = {path: path.read_bytes() for path in (made.folder / "store" / "embeddings").glob("*/*")}
    for path, content in texts.items():
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    sheet = made.folder / "sheet.csv"
    sheet.write_text(sheet.read_text().replace(",0\n", ",7\n"))  # another seed of the same words
    ended = made.run("run", "server=none")
    assert ended.returncode == 0, ended.stderr
    assert "2 variants made" in ended.stdout
    assert ended.stderr.count("a text is encoded again") == 3
    assert before.items() <= made.latents().items()
    assert {path: path.read_bytes() for path in texts} == texts
    assert made.store().verify().ok


@pytest.fixture
def small_disk(bench):
    """The store on a disk of its own, with room for a few rows."""
    place = bench.folder / "store"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"NOT PROVEN HERE: no right to mount a disk ({mounted.stderr.strip()})")
    (place / "lost+found").write_bytes(bytes(1_300_000))
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_run_that_fills_the_disk_tells_what_it_made(bench, small_disk):
    bench.write_sheet(["fox"], [f"does thing {number}" for number in range(ROWS)])
    ended = bench.run("run", "server=none", "batch=full")
    made = objects(bench, "variants")
    assert 0 < len(made) < ROWS
    assert ended.returncode == 1, ended.stdout + ended.stderr
    told = re.search(r"^(\d+) variants made, 0 already there, (\d+) failed", ended.stdout)
    assert told, ended.stdout
    failed = int(told[2])
    assert int(told[1]) == len(made)
    # What was under way when the first one failed may fail too. The rest is not tried: each would meet the same disk.
    assert 1 <= failed <= 8 < ROWS - len(made)
    assert f"Given up with {ROWS - len(made) - failed} rows left: what ended the last one would end all" in ended.stdout
    assert "no space left under" in ended.stdout
    assert "free some with `headstart store gc`" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert all(is_whole(*one) for one in made.values())

    # All that was made counts once there is room, also what could not be listed any more.
    (small_disk / "lost+found").unlink()
    again = bench.run("run", "server=none", "batch=full")
    assert again.returncode == 0, again.stderr
    assert "is being made by" not in again.stderr  # nobody waits for a run that is over
    assert f"{ROWS - len(made)} variants made, {len(made)} already there, 0 failed" in again.stdout
    assert len(objects(bench, "variants")) == ROWS
    assert bench.store().verify().ok


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_nights_run_after_one_of_a_machine_with_a_wrong_clock(tmp_path, tiny_t2v, offset):
    """One machine makes and repairs with a clock that is off; the next ones do what is missing, once."""
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(sheet_text(["fox"], PROMPTS))
    overrides = [f"model={tiny_t2v}", *TINY, f"store={tmp_path / 'store'}", "server=none", "batch=night"]
    with clock_off_by(offset):
        assert flows.render_sheet(str(sheet), overrides=overrides).done == 2
        store = Store.open(tmp_path / "store")
        key = min(store.known("variants"))
        store.files.remove(store.commit_of("variants", key).path("video.mp4"))
        assert store.repair().after.ok
    second = flows.render_sheet(str(sheet), overrides=overrides)
    assert (second.done, second.cached, second.failed) == (1, 1, ())
    with clock_off_by(-offset):
        third = flows.render_sheet(str(sheet), overrides=overrides)
    assert (third.done, third.cached, third.steps_run) == (0, 2, 0)
    report = json.loads((tmp_path / "store" / "batches" / "night" / "report.json").read_text())
    assert report["summary"]["done"] == 2
    assert store.verify().ok
