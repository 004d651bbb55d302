"""Faults of the backend: tried again where that is right, and whole or absent always."""

import contextlib
import errno
import os
import tempfile
import time
from pathlib import Path

import pytest
import torch

from prior_store import Store, recipe_key
from prior_store.backends.capabilities import SingleWriterWarning
from prior_store.backends.objects import ObjectFiles
from prior_store.backends.retries import ATTEMPTS
from prior_store.backends.root import open_root
from prior_store.errors import DamagedError, NoSpaceError, StoreUnreachableError
from prior_store.layout import commit_path
from prior_store.testing import fill, latents_of, put_object, recipe_of
from tests.test_store.faulty import Faulty, PayloadError, ServerError

ERRORS = {
    "503": lambda: ServerError(),
    "500": lambda: ServerError(500, "InternalError"),
    "timeout": lambda: TimeoutError("no answer"),
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "reset by peer"),
    "short body": lambda: PayloadError("payload is not completed"),
    "i/o": lambda: OSError(errno.EIO, "input/output error"),
}


def faulty_store(script=None):
    """Open a store whose backend begins to fail once it is open."""
    fs = Faulty()
    files = ObjectFiles("faulty://bucket/store", filesystem=fs)
    files.pause = lambda _s: None
    store = Store(files, open_root(files, create=True))
    store.require_writable()
    fs.script.update(script or {})
    return store, fs


def number_of_writes():
    store, fs = faulty_store()
    count = 0
    original = fs.pipe_file

    def counting(*args, **kwargs):
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    fs.pipe_file = counting
    put_object(store, 1)
    return count


WRITES = number_of_writes()


def test_there_are_writes_to_fail():
    assert WRITES >= 6  # claim, two snapshots, a video, the commit, the row


@pytest.mark.parametrize("write", range(WRITES))
@pytest.mark.parametrize("how", ["before", "after", "torn"])
@pytest.mark.parametrize("error", ERRORS)
def test_one_fault_in_any_write_is_got_over_or_leaves_nothing(write, how, error):
    store, fs = faulty_store({"put": [None] * write + [(how, ERRORS[error]())]})
    try:
        commit = put_object(store, 1)
    except (DamagedError, StoreUnreachableError):
        # Only a backend that shows half a record (object stores do not) brings us here, and only for records.
        assert how == "torn"
        commit = None
    assert fs.used == [("put", how)]
    check(store, commit)


def check(store, commit):
    if commit is not None:
        assert store.verify().ok
        assert torch.equal(store.read_tensors(commit, "step_0000.safetensors")[0]["latents"], latents_of(1))
        assert store.manifest()["key"].to_pylist() == [commit.key]
    else:
        assert store.repair().after.ok
        assert store.manifest().num_rows == 0


@pytest.mark.parametrize("error", ERRORS)
def test_a_backend_that_is_down_is_one_sentence_and_nothing_half_done(error):
    store, fs = faulty_store()
    fs.script["put"] = [("before", ERRORS[error]())] * 100
    with pytest.raises(
        StoreUnreachableError, match=f"did not answer after {ATTEMPTS} tries .* what is finished is kept"
    ):
        put_object(store, 1)
    fs.script.clear()
    assert store.verify().ok
    assert store.manifest().num_rows == 0
    put_object(store, 1)
    assert store.verify().ok


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("operation", ["get", "list", "delete"])
def test_faults_in_reading_listing_and_removing_are_got_over(operation, error):
    store, fs = faulty_store()
    commit = put_object(store, 1)
    put_object(store, 2)
    fs.script[operation] = [("before", ERRORS[error]()), None, ("before", ERRORS[error]())]
    assert store.manifest().num_rows == 2
    assert store.commit_of("priors", commit.key) == commit
    store.compact(grace_s=0)
    store.files.find("priors")
    store.files.remove("nothing")
    assert len(fs.used) == 2
    assert store.verify().ok


def test_errors_that_will_not_mend_are_not_tried_again():
    store, fs = faulty_store({"put": [("before", PermissionError(errno.EACCES, "read-only key"))]})
    with pytest.raises(PermissionError, match="read-only key"):
        put_object(store, 1)
    assert fs.used == [("put", "before")]


def test_a_listing_that_lags_never_gives_a_key_twice():
    store, fs = faulty_store()
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe)) as claim:
        fs.script["names"] = [("stale", None)] * 50
        with pytest.raises(TimeoutError, match="still being made"):
            store.claim("priors", recipe_key(recipe), wait_s=0.2).__enter__()
        assert fs.used
        fill(claim, 1)
        claim.publish(recipe=recipe)
    assert store.verify().ok


def test_a_manifest_listing_that_lags_is_behind_and_not_wrong():
    store, fs = faulty_store()
    first = put_object(store, 1)
    assert store.known("priors") == {first.key}
    second = put_object(store, 2)
    fs.script["list"] = [("stale", None)] * 2  # fragments, compacted files
    assert store.known("priors") == {first.key}
    assert store.known("priors") == {first.key, second.key}


def test_no_space_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "store")
    before = set(store.files.find(""))

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("prior_store.backends.local.os.fsync", full)
        with pytest.raises(NoSpaceError, match=r"no space left under file://.* free some with `headstart store gc`"):
            put_object(store, 1)
    left = {path.rsplit("/", 1)[1].split("-")[0] for path in set(store.files.find("")) - before}
    assert left <= {"claim", "hb"}
    with store.claim("priors", recipe_key(recipe_of(1)), wait_s=0) as claim:
        assert claim.commit is None
    put_object(store, 1)
    assert store.verify().ok


def test_a_disk_that_is_full_at_the_last_moment_gives_no_commit(tmp_path, monkeypatch):
    store, recipe = Store.open(tmp_path / "store"), recipe_of(1)

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.claim("variants", recipe_key(recipe)) as claim, monkeypatch.context() as patch:
        claim.put_file("video.mp4", b"frames")
        patch.setattr("prior_store.backends.local.os.fsync", full)
        with pytest.raises(NoSpaceError, match="free some with `headstart store gc`"):
            claim.publish(recipe=recipe)
    assert store.commit_of("variants", recipe_key(recipe)) is None
    with store.claim("variants", recipe_key(recipe), wait_s=0) as claim:
        claim.put_file("video.mp4", b"frames")
        claim.publish(recipe=recipe)
    assert store.verify().ok


def test_everything_a_commit_names_is_flushed_before_it(tmp_path, monkeypatch):
    """A power cut cannot be tried here; what can be is that every file and folder was handed to the disk in time."""
    store, recipe, flushed = Store.open(tmp_path / "store"), recipe_of(1), []
    plain = os.fsync

    def fsync(handle):
        flushed.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        plain(handle)

    monkeypatch.setattr("prior_store.backends.local.os.fsync", fsync)
    with store.claim("variants", recipe_key(recipe)) as claim:
        claim.put_file("video.mp4", b"frames")
        claim.put_tensors("latents.safetensors", {"latents": torch.zeros(2)})
        assert flushed == []  # neither the lease nor what is not committed yet
        commit = claim.publish(recipe=recipe, defer_row=True)
    files = [str(store.local_path_of(commit, name)) for name in commit.files]
    attempt = Path(files[0]).parent
    folders = [str(place) for place in (attempt, *attempt.parents[:3], tmp_path / "store")]
    record = next(place for place, path in enumerate(flushed) if "COMMIT.json" in path)
    assert set(files) | set(folders) <= set(flushed[:record])
    assert flushed[-1] == str(attempt.parent)


def edges_of_a_put():
    """Name the stages that publishing one object passes on a local disk, in order; heartbeats come when they like."""
    stages = []
    with tempfile.TemporaryDirectory() as folder:
        Store.open(folder)
        store = Store.open(folder, fault_point=lambda stage, path: stages.append(stage) if "/hb-" not in path else None)
        put_object(store, 1)
    return stages


EDGES = edges_of_a_put()


def test_there_are_edges_to_fail_at():
    assert set(EDGES) == {"put", "create", "staged", "done", "remove", "removed"}


@pytest.mark.parametrize("nth", range(len(EDGES)), ids=[f"{nth}-{stage}" for nth, stage in enumerate(EDGES)])
def test_an_error_at_any_edge_of_a_local_write_leaves_whole_or_nothing(tmp_path, nth):
    passed = []

    def fault_point(stage, path):
        if "/hb-" not in path:
            passed.append(stage)
            if len(passed) == nth + 1:
                raise OSError(errno.EIO, "input/output error")

    Store.open(tmp_path / "store")
    store = Store.open(tmp_path / "store", fault_point=fault_point)
    with contextlib.suppress(OSError):
        put_object(store, 1, ttl_s=1)
    assert passed[: nth + 1] == EDGES[: nth + 1]
    clean = Store.open(tmp_path / "store")
    assert not [path for path in clean.files.find("") if path.endswith(".tmp")]
    if not clean.verify().ok:
        assert clean.repair().after.ok
    put_object(clean, 1)
    assert clean.verify().ok
    assert clean.manifest().num_rows == 1


def test_a_cleaner_that_fails_lets_the_key_go():
    store, fs = faulty_store()
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe)) as claim:
        fill(claim, 1)
    fs.script["delete"] = [("before", PermissionError(errno.EACCES, "no right to delete"))]
    with pytest.raises(PermissionError, match="no right to delete"):
        store.gc(dry_run=False, grace_s=-60)
    with store.claim("priors", recipe_key(recipe), wait_s=0) as claim:
        assert sorted(claim.leftover()) == [0, 1]


def test_a_claim_that_fails_on_the_way_in_lets_the_key_go(monkeypatch):
    store, _ = faulty_store()
    recipe, looks, read = recipe_of(1), [], store.files.read

    def broken_second_look(path):
        looks.append(path)
        if looks.count(commit_path("priors", recipe_key(recipe))) == 2:
            raise OSError(errno.EACCES, "no right to read")
        return read(path)

    monkeypatch.setattr(store.files, "read", broken_second_look)
    with pytest.raises(OSError, match="no right to read"):
        store.claim("priors", recipe_key(recipe)).__enter__()
    with store.claim("priors", recipe_key(recipe), wait_s=0) as claim:
        assert claim.commit is None


def test_a_lease_that_cannot_be_removed_costs_nothing(caplog):
    store, fs = faulty_store()
    fs.script["delete"] = [("before", PermissionError(errno.EACCES, "no right to delete"))] * 10
    commit = put_object(store, 1)
    assert "stays behind: [Errno 13] no right to delete" in caplog.text
    assert store.known("priors") == {commit.key}
    assert put_object(store, 1) == commit
    assert store.verify().ok


def test_heartbeats_that_fail_are_told_and_go_on(caplog):
    store, fs = faulty_store()
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe), ttl_s=0.4) as claim:
        fs.script["put"] = [("before", RuntimeError("whatever a backend raises"))] * 2
        ends = time.monotonic() + 30
        while fs.script["put"] and time.monotonic() < ends:
            time.sleep(0.02)
        time.sleep(0.3)
        claim.check()
        claim.publish(recipe=recipe)
    assert caplog.text.count("a heartbeat for priors/") == 2
    assert len(fs.used) == 2


class Careless(Faulty):
    """A backend that takes conditional puts and ignores the condition, as some S3 gateways do."""

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, **kwargs)


def test_a_backend_that_ignores_conditions_runs_with_one_writer():
    fs = Careless()
    files = ObjectFiles("faulty://bucket/store", filesystem=fs)
    store = Store(files, open_root(files, create=True))
    with pytest.warns(SingleWriterWarning, match="only one process"):
        store.require_writable()
    assert store.capabilities.mode == "single writer"
    before = files.read("STORE.json")
    commit = put_object(store, 1)
    with store.claim("priors", recipe_key(recipe_of(2))), pytest.raises(TimeoutError):
        store.claim("priors", recipe_key(recipe_of(2)), wait_s=0).__enter__()
    assert put_object(store, 1) == commit
    assert not files.create(f"priors/{commit.key[:2]}/{commit.key}/COMMIT.json", b"other")
    with pytest.warns(SingleWriterWarning):
        assert not open_root(
            ObjectFiles("faulty://bucket/store", filesystem=fs), create=False
        ).capabilities.exclusive_create
    assert files.read("STORE.json") == before
    assert store.verify().ok
