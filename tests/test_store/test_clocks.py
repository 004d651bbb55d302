"""Machines whose clocks are wrong: nothing in a store is ordered by them, and nothing young is taken for old."""

import time

import pyarrow.parquet as pq
import pytest

from prior_store import Store, recipe_key
from prior_store.care.gc import Retention
from prior_store.errors import ClaimTimeoutError
from prior_store.layout import commit_path
from prior_store.testing import fill, put_object, recipe_of
from tests.test_store.clocks import DAY, HOUR, OFFSETS, clock_off_by


@pytest.fixture(params=["disk", "memory"])
def url(request, tmp_path):
    return str(tmp_path / "store") if request.param == "disk" else f"memory://{tmp_path.name}/store"


@pytest.fixture
def store(url):
    return Store.open(url)


def by_the_documented_rule(store):
    """The status of each key as a reader sees it that knows the format and not this code."""
    rows = []
    for path in store.files.find("manifest"):
        source, filesystem = store.files.arrow_source(path)
        rows += pq.read_table(source, filesystem=filesystem, columns=["key", "status", "recorded_at"]).to_pylist()
    rows.sort(key=lambda row: row["recorded_at"])
    removed = {row["key"]: row["recorded_at"] for row in rows if row["status"] == "removed"}
    rows = [row for row in rows if row["key"] not in removed or row["recorded_at"] > removed[row["key"]]]
    return {row["key"]: row["status"] for row in sorted(rows, key=lambda row: row["status"] == "done")}


@pytest.mark.parametrize("compacted", [False, True])
@pytest.mark.parametrize("offset", OFFSETS)
def test_what_is_made_again_after_a_repair_is_seen(store, url, offset, compacted):
    commit, other = put_object(store, 1), put_object(store, 2)
    store.files.remove(commit.path("video.mp4"))
    with clock_off_by(offset):
        assert Store.open(url).repair().after.ok
        if compacted:
            Store.open(url).compact(grace_s=0)
    assert by_the_documented_rule(store) == {other.key: "done"}
    put_object(store, 1)
    assert store.known("priors") == {commit.key, other.key}
    assert by_the_documented_rule(store) == dict.fromkeys([commit.key, other.key], "done")
    store.compact(grace_s=0)
    assert Store.open(url).known("priors") == {commit.key, other.key}
    assert store.verify().ok


@pytest.mark.parametrize("offset", OFFSETS)
def test_what_is_made_again_after_a_clean_up_is_seen(store, url, offset):
    commit = put_object(store, 1, row={"batch": "old"})
    with clock_off_by(offset):
        assert Store.open(url).gc(dry_run=False, grace_s=-2 * DAY, retention=Retention(batches=["old"])).items
    put_object(store, 1)
    assert store.known("priors") == {commit.key}
    assert store.verify().ok
    with clock_off_by(-offset):
        assert Store.open(url).gc(dry_run=False, grace_s=-2 * DAY, retention=Retention(batches=["old", ""])).items == ()
    assert store.known("priors") == {commit.key}


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_last_failure_is_the_one_that_is_told(store, url, offset):
    row = {"kind": "variants", "key": recipe_key(recipe_of(1)), "status": "failed"}
    with clock_off_by(offset):
        Store.open(url).add_rows([{**row, "error": "first", "batch": "b1"}])
    store.add_rows([{**row, "error": "second", "batch": "b2"}])
    with clock_off_by(-offset):
        Store.open(url).add_rows([{**row, "error": "third", "batch": "b3"}])
    for _ in range(2):
        assert store.manifest(columns=["error"])["error"].to_pylist() == ["third"]
        store.compact(grace_s=0)


@pytest.mark.parametrize("offset", OFFSETS)
def test_rows_beside_those_of_a_wrong_clock_keep_their_own_time(store, url, offset):
    with clock_off_by(offset):
        put_object(Store.open(url), 1)
    put_object(store, 2)
    (written,) = store.rows_by_key([recipe_key(recipe_of(2))], ["recorded_at"]).values()
    assert abs(written["recorded_at"].timestamp() - time.time()) < 60


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_cleaner_with_a_wrong_clock_takes_nothing_young(store, url, offset):
    put_object(store, 1, row={"batch": "b"})
    recipe = recipe_of(2)
    with store.claim("priors", recipe_key(recipe), ttl_s=1) as claim:
        fill(claim, 2)
        with clock_off_by(offset):
            cleaner = Store.open(url)
            options = {"retention": Retention(batches=["b"]), "unused_steps": True, "embeddings_older_than_s": 0}
            assert cleaner.gc(dry_run=False, grace_s=HOUR / 2, **options).items == ()
        claim.publish(recipe=recipe)
    assert store.verify().ok
    assert len(store.known("priors")) == 2


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_object_of_a_machine_with_a_wrong_clock_is_not_taken_for_old(store, url, offset):
    with clock_off_by(offset):
        commit = put_object(Store.open(url), 1, row={"batch": "b"})
    assert store.gc(dry_run=False, grace_s=HOUR / 2, retention=Retention(batches=["b"])).items == ()
    assert store.known("priors") == {commit.key}


@pytest.mark.parametrize("offset", OFFSETS)
def test_what_a_machine_with_a_wrong_clock_made_is_retired_when_it_is_its_turn(store, url, offset):
    with clock_off_by(offset):
        commit = put_object(Store.open(url), 1, row={"batch": "b"})
    by_age = {"dry_run": False, "grace_s": 0, "retention": Retention(older_than_s=HOUR / 2)}
    assert store.gc(**by_age).items == ()
    retired = store.gc(dry_run=False, grace_s=0, retention=Retention(batches=["b"])).items
    assert {item.key for item in retired} == {commit.key}
    assert store.known("priors") == set()
    assert store.verify().ok


@pytest.mark.parametrize("offset", OFFSETS)
def test_compaction_leaves_readers_the_grace_time(store, url, offset):
    for number in range(3):
        put_object(store, number)
    listed = set(store.files.find("manifest/log"))
    with clock_off_by(offset):
        first = Store.open(url).compact(grace_s=HOUR / 2)
    with clock_off_by(-offset):
        second = Store.open(url).compact(grace_s=HOUR / 2)
    assert (first.removed, second.removed) == ((), ())
    assert set(store.files.find("manifest/log")) == listed
    assert len(store.known("priors")) == 3


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_lease_is_waited_for_whatever_the_waiters_clock_says(store, url, offset):
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe), ttl_s=30) as claim:
        with clock_off_by(offset), pytest.raises(ClaimTimeoutError):
            Store.open(url).claim("priors", recipe_key(recipe), wait_s=0.2).__enter__()
        fill(claim, 1)
        claim.publish(recipe=recipe)
    silent = recipe_of(2)
    gone = store.claim("priors", recipe_key(silent), ttl_s=0.3).__enter__()
    gone._lease._ended.set()  # it gives no more signs, and does not let go
    with clock_off_by(offset), Store.open(url).claim("priors", recipe_key(silent), wait_s=20) as claim:
        assert claim.commit is None
    assert store.commit_of("priors", recipe_key(silent)) is None
    assert store.files.size(commit_path("priors", recipe_key(recipe)))
