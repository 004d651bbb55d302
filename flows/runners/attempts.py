"""How a chunk is run, wherever that is: what failed and may pass by itself is tried again, and only that."""

from __future__ import annotations

from dataclasses import replace

from flows.graph.work import Chunk
from tasks.errors import InterruptedBatchError, RowsFailedError
from tasks.making.runtime import runtime_for
from tasks.result import Result

_LONGEST_PAUSE_S = 60.0


def attempted(chunk: Chunk) -> list[Result]:
    """The results of a chunk; raises `RowsFailedError` with all of them when some are failures."""
    context, call = chunk.context, chunk.works[0].call
    ended: dict[str, Result] = {}
    works = chunk.works
    for attempt in range(1, context.settings.retries + 2):
        try:
            results = call(tuple(work.item for work in works), replace(context, attempt=attempt))
        except InterruptedBatchError as stopped:
            ended |= {result.id: result for result in stopped.results}
            raise InterruptedBatchError(str(stopped), list(ended.values())) from stopped
        ended |= {result.id: result for result in results}
        works = tuple(work for work in works if ended[work.id].failed and ended[work.id].transient)
        if not works or attempt > context.settings.retries or _stopped_while_waiting(chunk, attempt):
            break
    bad = [result for result in ended.values() if result.failed]
    if bad:
        raise RowsFailedError("; ".join(f"{result.id}: {result.error}" for result in bad[:5]), list(ended.values()))
    return list(ended.values())


def _stopped_while_waiting(chunk: Chunk, attempt: int) -> bool:
    """Wait before the next try, longer each time; True when the run was told to stop meanwhile."""
    return runtime_for(chunk.context).stop.wait(min(_LONGEST_PAUSE_S, 2.0 ** (attempt - 1)))
