"""Runs chunks on threads of this process, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

from flows.graph.work import Chunk
from flows.runners.attempts import attempted
from tasks.result import Result


class ThreadRunner:
    """Threads, nothing else. `run` is what each chunk goes through."""

    far = False

    def __init__(self, workers: int, run: Callable[[Chunk], list[Result]] = attempted) -> None:
        self.workers, self._run = workers, run
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="headstart")

    def submit(self, chunk: Chunk, done: Callable[[Any], None]) -> None:
        """Run on a thread."""

        def tell(future: Future[Any]) -> None:
            if not future.cancelled():
                done(future.exception() or future.result())

        self._pool.submit(self._run, chunk).add_done_callback(tell)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
