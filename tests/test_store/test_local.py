"""The promises on a local disk, and what is special to it."""

import errno
import os

import pytest

from prior_store import Store
from prior_store.backends.capabilities import SingleWriterWarning
from prior_store.testing import StorePromises, put_object


class TestLocalStore(StorePromises):
    @pytest.fixture
    def url(self, tmp_path):
        return str(tmp_path / "store")


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_hard_links_is_said_to_have_one_writer(tmp_path, monkeypatch, code):
    def refused(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("prior_store.backends.local.os.link", refused)
    store = Store.open(tmp_path / "store")
    with pytest.warns(SingleWriterWarning, match="only one process"):
        commit = put_object(store, 1)
    assert not store.files.create(f"priors/{commit.key[:2]}/{commit.key}/COMMIT.json", b"other")
    assert put_object(store, 1) == commit
    assert store.verify().ok


def test_snapshots_are_mapped_and_survive_their_removal(tmp_path):
    store = Store.open(tmp_path / "store")
    commit = put_object(store, 1)
    tensors, _ = store.read_tensors(commit, "step_0000.safetensors")
    place = store.local_path_of(commit, "step_0000.safetensors")
    place.unlink()
    assert tensors["latents"].sum().isfinite()


def test_the_root_may_be_a_path_a_url_or_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "with space").mkdir()
    for url in (tmp_path / "with space" / "a", f"file://{tmp_path}/b", "~/c"):
        store = Store.open(url)
        commit = put_object(store, 1)
        assert Store.open(store.url, create=False).known("priors") == {commit.key}
        assert store.uri_of(commit, "video.mp4").startswith("file:///")
        assert store.local_path_of(commit, "video.mp4").read_bytes() == b"video 1"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c", "with space"]


@pytest.mark.parametrize("linked", ["attempt", "file"])
def test_what_lies_behind_a_link_is_not_kept(tmp_path, linked):
    """Nobody who changes what a link leads to knows of this store."""
    store = Store.open(tmp_path / "store")
    commit = put_object(store, 1)
    place = store.local_path_of(commit, "video.mp4")
    place = place.parent if linked == "attempt" else place
    elsewhere = place.rename(tmp_path / "elsewhere")
    place.symlink_to(elsewhere)
    for quick in (True, False):
        found = store.verify(quick=quick).problems
        assert {(problem.what, problem.key) for problem in found} == {("missing file", commit.key)}
    assert list(store.damaged([("priors", commit.key)])) == [("priors", commit.key)]
    assert store.repair().after.ok
    assert store.gc(dry_run=False, grace_s=-60)
    assert elsewhere.exists()
    assert put_object(store, 1).attempt != commit.attempt
    assert store.verify().ok


def test_a_root_and_a_room_may_be_links(tmp_path):
    """As people do who keep videos on another disk."""
    (tmp_path / "large").mkdir()
    Store.open(tmp_path / "disk" / "store")
    (tmp_path / "disk" / "store" / "priors").symlink_to(tmp_path / "large")
    (tmp_path / "store").symlink_to(tmp_path / "disk" / "store")
    store = Store.open(tmp_path / "store")
    commit = put_object(store, 1)
    assert list((tmp_path / "large").glob("*/*/COMMIT.json"))
    assert store.damaged([("priors", commit.key)]) == {}
    assert store.verify().ok
