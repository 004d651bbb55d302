"""The laws of the driver, once for every runner: threads, Prefect task runs, other processes."""

import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from flows.graph.run import Means, run_graph
from flows.graph.work import Graph, Work
from flows.runners.attempts import attempted
from flows.runners.threads import ThreadRunner
from prior_store import Store
from tasks.context import Context
from tasks.making.progress import Progress
from tasks.run_state import cancel, read_states
from tasks.settings import Settings, StoreSettings
from tests.test_flows.driver_cases import plain


class ProcessRunner:
    """Chunks in other processes, which share nothing with this one but the store: what Ray and Dask are like."""

    far = True

    def __init__(self, workers):
        self.workers = workers
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def submit(self, chunk, done):
        self._pool.submit(attempted, chunk).add_done_callback(lambda f: done(f.exception() or f.result()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pool.shutdown(wait=True)


class Walks:
    """Fill the fixture `run_with`: it runs a function that takes the means of a run."""

    @pytest.fixture
    def run_with(self):
        raise NotImplementedError

    @pytest.fixture
    def walked(self, tmp_path, run_with, monkeypatch):
        monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
        folder = tmp_path / "made"
        folder.mkdir()
        self.folder, self.store = folder, Store.open(tmp_path / "store")
        self.seen = []

        def walk(*works, retries=1, on_change=lambda _: None, **rules):
            settings = Settings(store=StoreSettings(url=str(tmp_path / "store")), retries=retries)
            graph = Graph(works=works, is_made=lambda work: (folder / f"{work.id}.made").exists(), **rules)
            context = Context(batch="laws", settings=settings)
            ran = run_with(lambda means: run_graph(graph, context, self.store, Progress(totals={}), means), on_change)
            self.ran = ran
            return {result.id: result for result in ran.results}

        return walk

    def work(self, name, *needs, **more):
        values = {"kind": "variant", "title": name, "call": plain, "key": name} | more
        return Work(id=name, item=(name, str(self.folder)), needs=needs, **values)

    def tries(self, name):
        file = self.folder / name
        return file.stat().st_size if file.exists() else 0

    def states(self):
        return {row.id: row.state for row in read_states(self.store, "laws")}


class DriverLaws(Walks):
    """What holds wherever the work is done."""

    def test_each_is_made_once_after_what_it_needs(self, walked):
        ended = walked(self.work("child", "parent", group="g"), self.work("parent"), self.work("alone"))
        assert {name: one.status for name, one in ended.items()} == dict.fromkeys(("parent", "child", "alone"), "done")
        assert [self.tries(name) for name in ("parent", "child", "alone")] == [1, 1, 1]
        assert (self.folder / "parent").stat().st_mtime_ns <= (self.folder / "child").stat().st_mtime_ns
        assert self.states() == dict.fromkeys(("parent", "child", "alone"), "done")

    def test_twins_of_one_key_are_made_once_and_both_told(self, walked):
        ended = walked(self.work("first", key="k"), self.work("second", key="k"), self.work("after", "second"))
        assert {name: one.status for name, one in ended.items()} == {"first": "done", "second": "same", "after": "done"}
        assert self.tries("second") == 0
        assert self.states()["second"] == "done"

    def test_what_needs_a_failure_is_not_run_and_says_why(self, walked):
        ended = walked(
            self.work("bad", spoken="the prior of 'fox'"), self.work("child", "bad"), self.work("grandchild", "child"),
            self.work("other"),
        )  # fmt: skip
        assert ended["other"].status == "done"
        assert ended["child"].error == "not run, since the prior of 'fox' failed: it broke"
        assert ended["grandchild"].failed
        assert self.tries("child") == 0
        assert self.states() == {"bad": "failed", "child": "failed", "grandchild": "failed", "other": "done"}

    def test_only_what_may_pass_is_tried_again_and_counted(self, walked):
        ended = walked(*(self.work(name, group="g") for name in ("shaky", "bad", "good")), chunk_size=3)
        assert {name: one.status for name, one in ended.items()} == {"shaky": "done", "bad": "failed", "good": "done"}
        assert [self.tries(name) for name in ("shaky", "bad", "good")] == [2, 1, 1]
        assert ended["shaky"].attempts == 2

    def test_a_task_that_dies_costs_only_what_the_store_does_not_have(self, walked):
        (self.folder / "crash-but-made.made").touch()
        ended = walked(self.work("crash-but-made", group="g"), self.work("crash", group="g"), chunk_size=2)
        assert ended["crash-but-made"].status == "done"
        assert ended["crash"].error == "RuntimeError: the machinery broke"

    def test_a_vital_failure_ends_the_run(self, walked):
        with pytest.raises(RuntimeError, match="the machinery broke"):
            walked(self.work("crash", vital=True), self.work("child", "crash"))
        assert self.states() == {"crash": "cancelled", "child": "cancelled"}

    def test_too_many_failures_end_the_run_early(self, walked):
        walked(*(self.work(f"bad{number}", group="g") for number in range(60)), max_failures=2, chunk_size=1)
        assert self.ran.given_up
        assert not self.ran.interrupted
        assert 2 < len(self.ran.results) < 60
        assert "cancelled" in self.states().values()

    def test_what_would_end_all_others_too_ends_the_run_at_once(self, walked):
        # What is under way ends only by being told to; nothing else is begun.
        ended = walked(*(self.work(name, group=name) for name in ("full", *(f"wait{number}" for number in range(30)))))
        assert {name: one.status for name, one in ended.items()} == {"full": "failed"}
        assert self.ran.given_up
        assert not self.ran.interrupted
        assert self.states() == {"full": "failed"} | {f"wait{number}": "cancelled" for number in range(30)}
        assert self.tries("wait29") == 0

    def test_a_stop_that_only_the_work_has_heard_of_is_one(self, walked):
        """As where another process looked into the store a moment earlier, and nothing else is under way."""
        ended = walked(self.work("good", group="g"), self.work("told", "good", group="h"), self.work("late", "told"))
        assert {name: one.status for name, one in ended.items()} == {"good": "done"}
        assert self.ran.interrupted
        assert self.states() == {"good": "done", "told": "cancelled", "late": "cancelled"}

    def test_a_cancel_in_the_store_stops_what_runs_anywhere(self, walked):
        def once_it_runs():
            until = time.monotonic() + 60
            while not self.tries("wait") and time.monotonic() < until:
                time.sleep(0.05)
            cancel(self.store, "laws")

        threading.Thread(target=once_it_runs).start()
        ended = walked(self.work("good", group="g"), self.work("wait", "good", group="h"), self.work("late", "wait"))
        assert {name: one.status for name, one in ended.items()} == {"good": "done"}
        assert self.ran.interrupted
        assert self.states() == {"good": "done", "wait": "cancelled", "late": "cancelled"}

    def test_a_new_run_of_the_name_is_not_stopped_by_an_old_wish(self, walked):
        cancel(self.store, "laws")
        time.sleep(1.1)  # long enough for a look
        assert walked(self.work("good"))["good"].status == "done"
        assert not self.ran.interrupted


class TestThreads(DriverLaws):
    @pytest.fixture
    def run_with(self):
        return lambda run, on_change: run(Means(make_runner=lambda: ThreadRunner(2), on_change=on_change))


@pytest.mark.slow
class TestProcesses(DriverLaws):
    @pytest.fixture
    def run_with(self):
        return lambda run, on_change: run(Means(make_runner=lambda: ProcessRunner(2), on_change=on_change))


@pytest.mark.server
class TestPrefect(DriverLaws):
    @pytest.fixture
    def run_with(self, prefect_server):
        from flows.on_prefect.flows import render_sheet
        from flows.on_prefect.shown import as_flow_run

        def run(walk, on_change):
            with as_flow_run(render_sheet, {}, "laws", "works", on_change) as shown:
                return walk(shown.means(2))

        return run


class Told:
    """A runner that answers at once, and writes down what it was given."""

    far, workers = False, 3

    def __init__(self):
        self.chunks = []

    def submit(self, chunk, done):
        self.chunks.append([work.id for work in chunk.works])
        done(attempted(chunk))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class TestChunks(Walks):
    """What runs together: seen by a runner that writes it down."""

    @pytest.fixture
    def run_with(self):
        self.told = Told()
        return lambda run, on_change: run(Means(make_runner=lambda: self.told, on_change=on_change))

    def test_rows_of_one_group_share_a_task_however_they_are_mixed(self, walked):
        walked(
            *(self.work(f"{name}{number}", group=name) for number in range(6) for name in ("fox", "owl")), chunk_size=3
        )
        assert sorted(self.told.chunks) == [
            ["fox0", "fox1", "fox2"], ["fox3", "fox4", "fox5"], ["owl0", "owl1", "owl2"], ["owl3", "owl4", "owl5"],
        ]  # fmt: skip

    def test_quick_rows_go_many_to_a_task_and_slow_ones_alone(self, walked):
        walked(*(self.work(f"quick{number}", group="g") for number in range(200)))
        # Loading the model, a minute here, says nothing of how long a row takes.
        assert max(len(chunk) for chunk in self.told.chunks) == 50
        self.told.chunks.clear()
        walked(*(self.work(f"slow{number}", group="g") for number in range(50)))
        assert [len(chunk) for chunk in self.told.chunks] == [1] * 50
