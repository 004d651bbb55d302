"""From override strings to a batch that is ready to run: settings, sheet, store, plan. No GPU, no server."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from flows.compose import compose_settings
from tasks.making.runtime import open_store
from tasks.planning.model_source import fitted
from tasks.planning.plan import Plan, make_plan
from tasks.planning.work import BatchContext
from tasks.settings import Settings
from tasks.sheets.load import load_sheet
from tasks.sheets.rows import Sheet

if TYPE_CHECKING:
    from prior_store import Store


Only = Literal["all", "priors", "variants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch before it runs."""

    settings: Settings
    sheet: Sheet
    store: Store
    plan: Plan
    context: BatchContext
    only: Only = "all"

    @property
    def nothing_to_do(self) -> bool:
        """All that was asked for is in the store."""
        return not self.plan.variants_to_do and not self.plan.priors_to_do


def prepare(overrides: Sequence[str], only: Only = "all") -> Prepared:
    """Compose, read, check, plan. Every mistake is raised here, before anything is run."""
    settings = compose_settings(overrides)
    sheet = load_sheet(settings.sheet, settings.seed)
    settings = fitted(settings, sheet)
    store = open_store(settings)
    batch = settings.batch or batch_name(sheet.name)
    return Prepared(
        settings=settings,
        sheet=sheet,
        store=store,
        plan=narrowed(make_plan(settings, sheet, store), only),
        context=BatchContext(batch=batch, settings=settings, tags=settings.tags),
        only=only,
    )


def narrowed(plan: Plan, only: Only) -> Plan:
    """The plan without what was not asked for."""
    if only == "priors":
        return replace(plan, variants=(), wanted_priors=frozenset(prior.key for prior in plan.priors))
    if only == "variants":
        return replace(plan, records_priors=False)
    return plan


def batch_name(sheet_name: str) -> str:
    """Sheet name and time, fit for a folder."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", sheet_name.rpartition(".")[0] or sheet_name).strip("-").lower()[:60]
    return f"{stem or 'sheet'}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
