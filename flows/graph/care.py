"""Care of a store in one go: verify, compact, collect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.compose import compose_settings

if TYPE_CHECKING:
    from prior_store.care.gc import Collected
    from prior_store.care.verify import Report
    from prior_store.manifest.compact import Compaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintained:
    """What was found and done."""

    report: Report
    compaction: Compaction
    collected: Collected


def maintain(overrides: Sequence[str], *, quick: bool, delete: bool) -> Maintained:
    """Verify first: nothing is removed from a store that is damaged."""
    from prior_store import Store

    settings = compose_settings(overrides).store
    store = Store.open(settings.url, storage_options=settings.storage_options, create=False)
    report = store.verify(quick=quick)
    compaction = store.compact()
    return Maintained(report=report, compaction=compaction, collected=store.gc(dry_run=not (delete and report.ok)))


def told(done: Maintained) -> str:
    """In one line."""
    word = "could be removed" if done.collected.dry_run else "removed"
    return (
        f"{done.report.objects} objects, {len(done.report.problems)} problems; {len(done.compaction.absorbed)} manifest "
        f"files merged; {len(done.collected.items)} files ({done.collected.bytes / 2**20:,.1f} MiB) {word}"
    )
