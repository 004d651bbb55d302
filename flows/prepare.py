"""From override strings to a batch that is ready to run: settings, sheet, store, plan. No GPU, no server."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Literal

from flows.compose import compose_settings
from tasks.context import Context
from tasks.making.runtime import open_store
from tasks.planning.calibration import with_ratios
from tasks.planning.models.memory import check_room, made_to_fit
from tasks.planning.models.source import check_devices, fitted, known, settled
from tasks.planning.plan import Plan, make_plan
from tasks.settings import Settings
from tasks.sheets.load import load_sheet
from tasks.sheets.rows import Sheet

if TYPE_CHECKING:
    from prior_engine import ModelInfo
    from prior_store import Store


Only = Literal["all", "priors", "variants"]
# Whoever creates it has the name.
BATCH = "batch.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A batch before it runs."""

    settings: Settings
    sheet: Sheet
    store: Store
    model: ModelInfo
    plan: Plan
    context: Context
    only: Only = "all"

    @property
    def nothing_to_do(self) -> bool:
        """All that was asked for is in the store."""
        return not self.plan.variants_to_do and not self.plan.priors_to_do


def prepare(overrides: Sequence[str], only: Only = "all") -> Prepared:
    """Compose, read, check, plan. Every mistake is raised here, before anything is run."""
    return prepare_settings(compose_settings(overrides), only)


def prepare_settings(settings: Settings, only: Only = "all") -> Prepared:
    """The same where the settings are there already."""
    sheet = load_sheet(settings.sheet, settings.seed)
    settings = fitted(settings, sheet)
    check_devices(settings)
    store = open_store(settings)
    settings = settled(settings)
    settings, model = made_to_fit(settings, known(settings), sheet)
    check_room(settings, model, sheet)
    settings = with_ratios(settings, store, model.describe())
    return Prepared(
        settings=settings,
        sheet=sheet,
        store=store,
        model=model,
        plan=narrowed(make_plan(settings, model, sheet, store), only),
        context=Context(batch=batch_name(settings, sheet), settings=settings),
        only=only,
    )


def narrowed(plan: Plan, only: Only) -> Plan:
    """The plan without what was not asked for."""
    if only == "priors":
        return replace(plan, variants=(), wanted_priors=frozenset(prior.key for prior in plan.priors))
    if only == "variants":
        return replace(plan, records_priors=False)
    return plan


def batch_name(settings: Settings, sheet: Sheet) -> str:
    """The name that was asked for, or sheet name and time, fit for a folder."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", sheet.name.rpartition(".")[0] or sheet.name).strip("-").lower()[:60]
    return settings.batch or f"{stem or 'sheet'}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def with_own_batch(prepared: Prepared) -> Prepared:
    """The batch under a name that is its own in this store, whoever else launches one in this second.

    A name that was asked for goes on where it is the same sheet's; another sheet gets the next free number.
    """
    store, wanted = prepared.store, prepared.context.batch
    record = {"sheet": prepared.sheet.name, "sheet_digest": prepared.sheet.digest}
    for number in count(1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        if store.create_batch_file(name, BATCH, json.dumps(record, ensure_ascii=False).encode()):
            return replace(prepared, context=replace(prepared.context, batch=name))
        there = json.loads(store.read_batch_file(name, BATCH))
        if prepared.settings.batch and there.get("sheet_digest") == record["sheet_digest"]:
            return replace(prepared, context=replace(prepared.context, batch=name))
    raise AssertionError("there is always another number")
