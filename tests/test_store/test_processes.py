"""Many processes on one store. The longer runs of the same code are in benchmarks/store/promises.py."""

import os
import signal
import time

import pytest

from prior_store import Store, recipe_key
from prior_store.errors import ClaimLostError
from prior_store.testing import fill, recipe_of
from tests.test_store import workers

pytestmark = pytest.mark.process


@pytest.fixture
def local(tmp_path):
    return str(tmp_path / "store"), {}


@pytest.fixture(params=["local", pytest.param("seaweed_bucket", marks=pytest.mark.s3)])
def place(request):
    return request.getfixturevalue(request.param)


@pytest.mark.slow
def test_sixteen_processes_lose_no_row_and_double_none(place, tmp_path):
    url, options = place
    count = 60 if not options else 6
    result = workers.commit_storm(url, options, str(tmp_path), 16, count)
    assert result["codes"] == [0] * 16
    assert len(result["acknowledged"]) == 16 * count
    assert sorted(result["keys"]) == sorted(result["acknowledged"])
    assert Store.open(url, storage_options=options).verify(quick=True).ok


@pytest.mark.slow
def test_compaction_beside_writers_and_readers_hides_nothing(place, tmp_path):
    result = workers.soak(*place, tmp_path, seconds=6)
    assert set(result["codes"]) == {0}
    assert result["acknowledged"] == set(result["keys"])
    assert len(result["keys"]) == len(set(result["keys"]))
    assert min(result["reads"], result["compactions"], len(result["acknowledged"])) > 0


def events(log):
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def test_sixteen_processes_make_one_object_once(place, tmp_path):
    log = tmp_path / "log"
    codes = workers.run_all(workers.make_once, [(*place, 1, 20.0, 0.3, str(log))] * 16)
    assert codes == [0] * 16
    assert sorted(what for what, *_ in events(log)) == ["began", *["found"] * 15, "published"]


def test_a_killed_holder_is_replaced_once_and_in_time(place, tmp_path):
    log, ttl_s = tmp_path / "log", 2.0
    holder = workers.start(workers.make_once, *place, 1, ttl_s, 600.0, str(log))
    wait_for(lambda: events(log))
    others = [workers.start(workers.make_once, *place, 1, ttl_s, 0.0, str(log)) for _ in range(6)]
    time.sleep(ttl_s)  # they wait: the holder is alive
    assert [what for what, *_ in events(log)] == ["began"]
    os.kill(holder.pid, signal.SIGKILL)
    killed = time.monotonic()
    for other in others:
        other.join(60)
    found = events(log)
    assert [other.exitcode for other in others] == [0] * 6
    assert [what for what, *_ in found].count("began") == 2
    assert [what for what, *_ in found].count("published") == 1
    taken_over = next(float(when) for what, _, when in found[1:] if what == "began")
    assert taken_over - killed < ttl_s + 5


def stopped_maker(url, options, number, ttl_s, log):
    """Claim and fill, say so, and publish when told; a lost claim must show."""
    store = Store.open(url, storage_options=options)
    recipe = recipe_of(number)
    with store.claim("priors", recipe_key(recipe), ttl_s=ttl_s) as claim:
        fill(claim, number)
        workers.note(log, "filled")
        time.sleep(0.7)
        try:
            claim.publish(recipe=recipe)
        except ClaimLostError:
            workers.note(log, "lost")
            return
        workers.note(log, "published")


def test_a_paused_holder_cannot_publish_after_the_takeover(place, tmp_path):
    log, ttl_s = tmp_path / "log", 1.5
    paused = workers.start(stopped_maker, *place, 1, ttl_s, str(log))
    wait_for(lambda: events(log))
    os.kill(paused.pid, signal.SIGSTOP)
    url, options = place
    store = Store.open(url, storage_options=options)
    recipe = recipe_of(1)
    with store.claim("priors", recipe_key(recipe), ttl_s=ttl_s) as claim:
        assert claim.commit is None
        os.kill(paused.pid, signal.SIGCONT)
        paused.join(30)
        assert [what for what, *_ in events(log)] == ["filled", "lost"]
        assert store.commit_of("priors", recipe_key(recipe)) is None
        assert sorted(claim.leftover()) == [0, 1]
        claim.adopt(claim.leftover())
        claim.put_file("video.mp4", b"video 1")
        commit = claim.publish(recipe=recipe)
    assert store.commit_of("priors", recipe_key(recipe)) == commit
    assert store.verify().ok


def wait_for(condition, patience_s=60):
    ends = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.02)
