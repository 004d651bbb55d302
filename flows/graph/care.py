"""Care of a store as a graph: verify it; where that finds nothing wrong, merge its manifest and collect what nothing names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.compose import compose_settings
from flows.graph.run import Means, run_graph
from flows.graph.work import Call, Graph, Work
from tasks.context import Context
from tasks.making.progress import Progress
from tasks.making.runtime import open_store, runtime_for
from tasks.result import Result
from tasks.settings import Settings

if TYPE_CHECKING:
    from prior_store.care.gc import Collected
    from prior_store.care.verify import Report
    from prior_store.manifest.compact import Compaction

VERIFY, COMPACT, COLLECT = "verify", "compact", "collect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintained:
    """What was found and done; a damaged store is left as it is."""

    report: Report
    compaction: Compaction | None
    collected: Collected | None

    @property
    def summary(self) -> str:
        """In one line."""
        found = f"{self.report.objects} objects, {len(self.report.problems)} problems"
        if self.compaction is None or self.collected is None:
            return f"{found}; nothing was merged or removed, see: headstart store verify"
        word = "could be removed" if self.collected.dry_run else "removed"
        return (
            f"{found}; {len(self.compaction.absorbed)} manifest files merged; "
            f"{len(self.collected.items)} files ({self.collected.bytes / 2**20:,.1f} MiB) {word}"
        )


def care_settings(overrides: Sequence[str]) -> Settings:
    """The settings of a run of care; only the store counts."""
    return compose_settings(overrides)


def run_care(settings: Settings, means: Means, *, quick: bool, delete: bool) -> Maintained:
    """Verify first: nothing is removed from a store that is damaged."""
    works = (
        _work(VERIFY, verify_store, quick),
        _work(COMPACT, compact_store, None, needs=(VERIFY,)),
        _work(COLLECT, collect_store, delete, needs=(VERIFY,)),
    )
    graph = Graph(works=works, is_made=lambda _: False)
    progress = Progress(totals={"care": len(works)})
    ran = run_graph(
        graph, Context(batch="care", settings=settings), open_store(settings, create=False), progress, means
    )
    values = {result.id: result.value for result in ran.results}
    return Maintained(report=values[VERIFY], compaction=values.get(COMPACT), collected=values.get(COLLECT))


def _work(name: str, call: Call, item: Any, needs: tuple[str, ...] = ()) -> Work:
    return Work(id=name, kind="care", title=name, call=call, item=item, needs=needs)


def verify_store(items: tuple[Any, ...], context: Context) -> list[Result]:
    """Every row has its whole object, every object its row, every byte is right."""
    report = runtime_for(context).store.verify(quick=items[0])
    wrong = None if report.ok else f"{len(report.problems)} problems"
    return [_ended(VERIFY, report, wrong)]


def compact_store(_items: tuple[Any, ...], context: Context) -> list[Result]:
    """Merge the manifest's many small files into one."""
    return [_ended(COMPACT, runtime_for(context).store.compact())]


def collect_store(items: tuple[Any, ...], context: Context) -> list[Result]:
    """Tell what nothing names, and remove it where that was asked for."""
    return [_ended(COLLECT, runtime_for(context).store.gc(dry_run=not items[0]))]


def _ended(name: str, value: Any, error: str | None = None) -> Result:
    return Result(id=name, kind="care", key=name, status="failed" if error else "done", error=error, value=value)
