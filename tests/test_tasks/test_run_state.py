"""What the store knows of a run while it goes."""

import threading

import pytest

from prior_store import Store
from tasks.result import Result
from tasks.run_state import PIECE, RowState, RunState, cancel, forget_cancel, heed, read_states


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def rows(count):
    return [RowState(id=f"row{number}", kind="variant", key=f"k{number}") for number in range(count)]


def result(name, status="done", **more):
    return Result(id=name, kind="variant", key="k", status=status, **more)


def test_every_state_is_kept_with_its_reason(store):
    with RunState(store, "b", [*rows(4), RowState(id="old", kind="variant", key="k", state="cached")]) as state:
        state.begun(["row0", "row1", "row2"])
        state.ended(result("row0", seconds={"denoise": 2.0, "load": 50.0}, steps_run=3))
        state.ended(result("row1", "failed", error="NaN in the latents"))
        state.write()
        during = {row.id: row for row in read_states(store, "b")}
    assert (during["row0"].state, during["row0"].seconds, during["row0"].steps_run) == ("done", 2.0, 3)
    assert (during["row1"].state, during["row1"].reason) == ("failed", "NaN in the latents")
    assert [during[name].state for name in ("row2", "row3", "old")] == ["running", "waiting", "cached"]
    # What a run leaves unfinished is cancelled: nobody goes on with it.
    after = {row.id: row.state for row in read_states(store, "b")}
    assert [after[name] for name in ("row0", "row1", "row2", "row3")] == ["done", "failed", "cancelled", "cancelled"]


@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2 * PIECE + 7])
def test_rows_come_in_bounded_pieces(store, count):
    with RunState(store, "b", rows(count)) as state:
        state.write()
        pieces = store.files.find("batches/b")
        assert len(pieces) == -(-count // PIECE)
        assert [row.id for row in read_states(store, "b")] == [f"row{number}" for number in range(count)]


def test_only_pieces_with_news_are_written(store, monkeypatch):
    written = []
    plain = store.put_batch_file
    monkeypatch.setattr(
        store, "put_batch_file", lambda b, name, content: written.append(name) or plain(b, name, content)
    )
    with RunState(store, "b", rows(3 * PIECE)) as state:
        state.write()
        written.clear()
        state.ended(result(f"row{PIECE + 1}"))
        state.write()
        assert written == ["rows-0001.json"]


def test_a_store_that_fails_for_a_moment_costs_the_run_nothing(store, monkeypatch):
    def broken(*_):
        raise OSError("the disk is away")

    with RunState(store, "b", rows(2)) as state:
        with monkeypatch.context() as patch:
            patch.setattr(store, "put_batch_file", broken)
            state.ended(result("row0"))
            state.write()
        state.ended(result("row1"))
    assert [row.state for row in read_states(store, "b")] == ["done", "done"]


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr("tasks.run_state.EVERY_S", 0.1)


def test_a_wish_to_stop_is_heard_and_forgotten(store, often):
    stop, over = threading.Event(), threading.Event()
    cancel(store, "b", "by mistake")
    forget_cancel(store, "b")
    heed(store, "b", stop, over)
    assert not stop.wait(0.5)
    cancel(store, "b", "this time really")
    assert stop.wait(30)


def test_a_stop_here_is_passed_on_to_others(store, often):
    stop, over, elsewhere = threading.Event(), threading.Event(), threading.Event()
    heed(store, "b", stop, over, spread=True)
    heed(store, "b", elsewhere, threading.Event())
    stop.set()
    assert elsewhere.wait(30)
