"""What a run counts as made is what it made itself."""

import threading

from flows.graph.driver import Driver
from flows.graph.watch import Watch
from flows.graph.work import Graph, Work
from tasks.context import Context
from tasks.making.progress import Progress
from tasks.result import Result
from tasks.settings import Settings


class AtOnce:
    """Runs a chunk where it is handed in."""

    workers, far = 1, False

    def submit(self, chunk, done):
        try:
            done(chunk.works[0].call(tuple(work.item for work in chunk.works), chunk.context))
        except RuntimeError as error:
            done(error)


def driven(call, *names, key=None, **rules):
    works = tuple(
        Work(id=name, kind="variant", title=name, call=call, item=name, key=key or name, group="g") for name in names
    )
    graph = Graph(works=works, chunk_size=len(works), **rules)
    driver = Driver(
        graph, Context(batch="b", settings=Settings()), AtOnce(), Watch(Progress(totals={})), threading.Event()
    )
    return {result.id: result.status for result in driver.drive()}


def test_a_row_that_shares_what_was_found_is_found_too():
    def found(items, _context):
        return [Result(id=name, kind="variant", key="k", status="cached") for name in items]

    assert driven(found, "first", "second", key="k", is_made=lambda _: False) == {"first": "cached", "second": "cached"}


def test_what_another_process_made_while_a_task_broke_is_not_counted_as_made():
    def broken(_items, _context):
        raise RuntimeError("the machinery broke")

    ended = driven(broken, "ours", "theirs", is_made=lambda _: True, made_here=lambda work: work.id == "ours")
    assert ended == {"ours": "done", "theirs": "cached"}
