"""A disk that is full or may only be read: what is there can be read, proven and freed. On a real, small disk."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from prior_store import Store, recipe_key
from prior_store.care.gc import Retention
from prior_store.errors import NoSpaceError, StoreReadOnlyError
from prior_store.testing import fill, put_object, recipe_of

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT PROVEN HERE: no right to mount a disk ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def open_place():
    """A folder that everybody can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def abandon(store):
    """Leave an attempt that came to nothing: four files."""
    with pytest.raises(RuntimeError), store.claim("priors", recipe_key(recipe_of(9))) as claim:  # noqa: PT012
        fill(claim, 9)
        claim.put_file("preview.png", bytes(300_000))
        raise RuntimeError("gave up")


def fill_up(disk):
    """Leave not one block."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0


@pytest.fixture
def full(small_disk):
    """A store with two objects and an attempt that came to nothing, on a disk that is full."""
    store = Store.open(small_disk / "store")
    for number in range(2):
        put_object(store, number, row={"batch": "b"})
    abandon(store)
    fill_up(small_disk)
    return small_disk / "store"


def headstart(folder, *arguments, user=None):
    """Run a command in a process of its own, as another user if that is asked for."""
    # As another user, whose rights may not reach as far as Python's own files: so all is imported beforehand, by a first run.
    code = (
        "import contextlib, io, os, sys\nfrom flows.cli.main import main\nuser = int(sys.argv.pop(1))\n"
        "if user:\n with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()\n"
        " os.setgroups([]); os.setgid(user); os.setuid(user)\nmain()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_HOME": str(folder.parent / "home")}
    return subprocess.run(
        [sys.executable, "-c", code, str(user or 0), *arguments, f"store={folder}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def reads_all(folder, **how):
    """Every command that only looks, and what it answers."""
    (key, *_) = Store.open(folder, create=False).known("priors")
    listed = headstart(folder, "store", "ls", "--json", **how)
    assert listed.returncode == 0, listed.stderr
    assert sorted(row["status"] for row in json.loads(listed.stdout)) == ["done", "done"]
    shown = headstart(folder, "store", "show", key, **how)
    assert (shown.returncode, key in shown.stdout) == (0, True), shown.stderr
    verified = headstart(folder, "store", "verify", **how)
    assert (verified.returncode, "0 problems" in verified.stdout) == (0, True), verified.stderr
    assert headstart(folder, "store", "du", **how).returncode == 0
    told = headstart(folder, "store", "gc", "--grace-hours=-1", **how)
    assert told.returncode == 0, told.stderr
    assert "4 files" in told.stdout


def test_a_full_disk_is_read_and_freed_as_advised(full):
    reads_all(full)
    store = Store.open(full, create=False)
    with pytest.raises(NoSpaceError, match="free some with `headstart store gc`"):
        put_object(store, 7)
    freed = headstart(full, "store", "gc", "--grace-hours=-1", "--delete")
    assert freed.returncode == 0, freed.stderr
    assert "removed" in freed.stdout
    assert not list((full / "priors" / recipe_key(recipe_of(9))[:2]).glob("*/a*"))
    assert store.known("priors") == {recipe_key(recipe_of(number)) for number in range(2)}
    put_object(store, 7)
    assert store.verify().ok


def test_finished_objects_go_from_a_full_disk_too(small_disk):
    store = Store.open(small_disk / "store")
    for number, batch in enumerate(["old", "old", "new"]):
        put_object(store, number, row={"batch": batch})
    fill_up(small_disk)
    fresh = Store.open(small_disk / "store", create=False)
    assert len(fresh.gc(dry_run=False, grace_s=-60, retention=Retention(batches=["old"])).items) == 8
    assert fresh.known("priors") == {recipe_key(recipe_of(2))}
    assert fresh.verify().ok


def test_whoever_wrote_what_a_full_disk_lost_cannot_publish_it(small_disk):
    store = Store.open(small_disk / "store")
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe), ttl_s=30) as claim:
        fill(claim, 1)
        fill_up(small_disk)
        Store.open(small_disk / "store").gc(dry_run=False, grace_s=-600, clock=lambda: 2**40)
        (small_disk / "filler").unlink()
        with pytest.raises(RuntimeError, match="taken over"):
            claim.publish(recipe=recipe)
    assert store.verify().ok
    assert put_object(store, 1).key == recipe_key(recipe)


def test_a_folder_that_another_user_may_only_read(open_place):
    store = Store.open(open_place / "store")
    for number in range(2):
        put_object(store, number)
    abandon(store)
    before = {path: path.stat().st_mtime_ns for path in (open_place / "store").rglob("*")}
    reads_all(open_place / "store", user=NOBODY if os.geteuid() == 0 else None)
    assert {path: path.stat().st_mtime_ns for path in (open_place / "store").rglob("*")} == before


def test_a_disk_that_is_mounted_read_only(small_disk):
    store = Store.open(small_disk / "store")
    for number in range(2):
        put_object(store, number)
    abandon(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    reads_all(small_disk / "store")
    with pytest.raises(StoreReadOnlyError, match="read but not written"):
        Store.open(small_disk / "store").gc(dry_run=False)
