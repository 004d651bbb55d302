"""SIGKILL at every write of every operation, one after the other: what was acknowledged is there, the rest is repaired."""

import functools
import re
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from prior_store import Store, recipe_key
from prior_store.backends.address import open_files
from prior_store.care.gc import Retention
from prior_store.testing import fill, put_object, recipe_of
from tests.test_store import workers

KILLED = -9


@pytest.fixture
def local(tmp_path):
    return lambda: (str(tmp_path / secrets.token_hex(4)), {})


@pytest.fixture
def seaweed(seaweed_server):
    return lambda: (seaweed_server.new_place(), seaweed_server.options)


@pytest.fixture(params=["local", pytest.param("seaweed", marks=pytest.mark.s3)])
def new_place(request):
    return request.getfixturevalue(request.param)


@functools.cache
def template():
    """Make a store in which every operation has something to do, as a table of files."""
    store = Store.open(f"memory://{secrets.token_hex(8)}/store")
    for number in range(2):
        put_object(store, number, row={"batch": "new"})
    store.compact(grace_s=0)
    put_object(store, 3, row={"batch": "old"})
    recipe = recipe_of(4)
    with store.claim("priors", recipe_key(recipe)) as claim:
        fill(claim, 4, steps=3)
        claim.publish(recipe=recipe, row={"batch": "new"})
    with pytest.raises(RuntimeError), store.claim("priors", recipe_key(recipe_of(5))) as claim:  # noqa: PT012
        fill(claim, 5)
        raise RuntimeError("gave up")
    return {path: store.files.read(path) for path in store.files.find("")}


def prepare(url, options):
    """Put a copy of the template there."""
    files = open_files(url, options)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: files.put(*item), template().items()))
    return Store.open(url, storage_options=options)


def count_points(operation, url, options):
    """Let the operation run to its end and count its fault points."""
    points = []
    store = Store.open(url, storage_options=options, fault_point=lambda stage, path: points.append((stage, path)))
    points.clear()
    operation(store)
    return points


def check_after(url, options, acknowledged):
    """Verify, repairing if need be; all that was acknowledged must be there and whole."""
    store = Store.open(url, storage_options=options)
    report = store.verify()
    if not report.ok:
        report = store.repair().after
    assert report.ok, report.problems
    assert acknowledged <= store.known("priors")
    return store


OPERATIONS = {
    "publish": (lambda store: put_object(store, 7), workers.put_and_die, ()),
    "compact": (lambda store: store.compact(grace_s=0), workers.compact_and_die, (0,)),
    "gc": (
        lambda store: store.gc(dry_run=False, grace_s=-60, unused_steps=True, retention=Retention(batches=["old"])),
        workers.collect_and_die,
        (),
    ),
    "repair": (lambda store: store.repair(), workers.repair_and_die, ()),
}
"""name -> (the operation to its end, the operation in a process that dies, its further arguments)"""


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_write_loses_nothing_acknowledged(operation, new_place):
    whole, dying, arguments = OPERATIONS[operation]
    url, options = new_place()
    spoil(prepare(url, options), operation)
    points = count_points(whole, url, options)
    assert len(points) >= 4

    def ready(_moment):
        url, options = new_place()
        return url, options, spoil(prepare(url, options), operation)

    def look(place):
        url, options, acknowledged = place
        store = check_after(url, options, acknowledged)
        put_object(store, 7)
        assert store.verify(quick=True).ok
        assert recipe_key(recipe_of(7)) in store.known("priors")

    # Opening passes no fault point when the store is there, so the n-th point of the process is that of the operation.
    moments = moments_to_die(points, local=not options)
    with ThreadPoolExecutor(4) as pool:
        places = list(pool.map(ready, moments))
        dying_at = [(url, options, at, *arguments) for (url, options, _), at in zip(places, moments, strict=True)]
        codes = workers.run_all(dying, dying_at, at_once=4)
        assert [points[at - 1] for at, code in zip(moments, codes, strict=True) if code != KILLED] == []
        list(pool.map(look, places))


def moments_to_die(points, *, local):
    """Number the points that leave something new behind: when a write has ended is when the next one begins.

    On a disk, a removal goes on after the file is gone: the folders that it empties follow. On S3, where each moment costs
    a second, one is enough of those that come after a like write and before a like one; on a disk all of them are tried.
    """
    ends = ("done",) if local else ("done", "removed")
    moments = [at for at, (stage, _) in enumerate(points, 1) if stage not in ends or at == len(points)]
    if local:
        return moments
    last, first = moments[-1], {}
    for at, before in zip(moments, [None, *moments], strict=False):
        first.setdefault((before and like(*points[before - 1]), like(*points[at - 1])), at)
    return sorted({*first.values(), last})


def like(stage, path):
    """A write without what is different each time: keys, attempts, numbers, moments."""
    return stage, re.sub("[0-9a-f]{2,}|[0-9]", "", path)


def spoil(store, operation):
    """Give the operation work to do; name the keys that must survive it."""
    survivors = store.known("priors")
    if operation == "repair":
        torn = recipe_key(recipe_of(1))
        store.files.remove(store.commit_of("priors", torn).path("video.mp4"))
        (fragment, *_rest) = store.files.find("manifest/log")
        store.files.put(fragment, b"PAR1")
        survivors = {recipe_key(recipe_of(number)) for number in (0, 3, 4)}
    if operation == "gc":
        survivors = {recipe_key(recipe_of(number)) for number in (0, 1, 4)}
    return survivors
