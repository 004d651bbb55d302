"""What a batch would do: which keys its rows stand for, what the store has of them, what is left to run.

One pass, no weights, no GPU. Rows that cannot be right are told together, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Lora
from tasks.errors import PlanError
from tasks.planning.advice import measured_start
from tasks.planning.models.worn import worn
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.planning.planner import Planner
from tasks.planning.ways import Way
from tasks.settings import Settings
from tasks.sheets.rows import Row, Sheet

if TYPE_CHECKING:
    from prior_store import Store


_DAMAGED_TOLD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a batch will do, in order."""

    sheet_name: str
    priors: tuple[PlannedPrior, ...]
    variants: tuple[PlannedVariant, ...]
    full_steps: int
    model: Mapping[str, Any]
    schedule: Mapping[str, Any]
    start: Way
    start_from: str
    warnings: tuple[str, ...] = ()
    loras: tuple[Lora, ...] = ()
    wanted_priors: frozenset[str] = frozenset()
    records_priors: bool = True

    @property
    def priors_to_do(self) -> tuple[PlannedPrior, ...]:
        """Priors that are missing and that some missing variant needs."""
        if not self.records_priors:
            return ()
        needed = {variant.parent_key for variant in self.variants_to_do if variant.parent_kind == "priors"}
        needed |= self.wanted_priors
        return tuple(prior for prior in self.priors if not prior.cached and prior.key in needed)

    @property
    def variants_to_do(self) -> tuple[PlannedVariant, ...]:
        """Variants that the store lacks."""
        return tuple(variant for variant in self.variants if not variant.cached)

    @property
    def steps_to_run(self) -> int:
        """Denoising steps that this batch will run."""
        return len(self.priors_to_do) * self.full_steps + sum(variant.steps for variant in self.variants_to_do)

    @property
    def steps_from_scratch(self) -> int:
        """What full runs of the missing variants would take."""
        return len(self.variants_to_do) * self.full_steps


def make_plan(settings: Settings, info: ModelInfo, sheet: Sheet, store: Store) -> Plan:
    """Resolve every row against model and store."""
    loras = worn(settings)
    planner = Planner(settings, sheet, info, measured_start(store, settings, info.describe(), loras), loras)
    planner.add_all(_parents_first(sheet.rows))
    problems = list(dict.fromkeys(planner.problems))
    if problems:
        noun = "problem" if len(problems) == 1 else "problems"
        raise PlanError(
            f"{len(problems)} {noun} in {sheet.name}, nothing was run:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return _with_cached(planner, store)


def _parents_first(rows: Sequence[Row]) -> list[Row]:
    by_id = {row.id: row for row in rows}
    ordered: dict[str, Row] = {}
    for row in rows:
        chain = [row]
        while chain[-1].parent is not None and chain[-1].parent not in ordered:
            chain.append(by_id[chain[-1].parent])
        for ancestor in reversed(chain):
            ordered.setdefault(ancestor.id, ancestor)
    return list(ordered.values())


def _with_cached(planner: Planner, store: Store) -> Plan:
    names = {key: f"prior {prior.name!r}" for key, prior in planner.priors.items()}
    names |= {variant.key: f"row {variant.row_id!r}" for variant in planner.variants.values()}
    known = store.rows_by_key(names, ["kind", "status"])
    passed_over = [f"{text}; rows that it lists count as missing until they are met" for text in store.passed_over]
    listed = {key: (row["kind"], key) for key, row in known.items() if row["status"] == "done"}
    # The list is an index: what a run counts on is looked at itself.
    damaged = store.damaged(listed.values())
    done = {key for key, one in listed.items() if one not in damaged}
    needed: dict[str, set[int]] = {}
    for variant in planner.variants.values():
        if variant.parent_kind == "priors" and variant.way.start == "snapshot":
            needed.setdefault(variant.parent_key, set()).add(variant.start_step)
    priors = {
        key: replace(prior, cached=key in done, needed_steps=tuple(sorted(needed.get(key, ()))))
        for key, prior in planner.priors.items()
    }
    plan = Plan(
        sheet_name=planner.sheet.name,
        priors=tuple(priors.values()),
        variants=tuple(
            replace(variant, cached=variant.key in done, prior=priors[variant.prior_key])
            for variant in planner.variants.values()
        ),
        full_steps=planner.total,
        model=planner.model_recipe,
        schedule=planner.schedule_recipe,
        start=planner.default,
        start_from=planner.start_from,
        loras=planner.loras,
        warnings=tuple(dict.fromkeys(planner.notes)),
    )
    return replace(plan, warnings=(*passed_over, *_told(damaged, names), *plan.warnings, *_dear(plan)))


def _told(damaged: Mapping[tuple[str, str], str], names: Mapping[str, str]) -> list[str]:
    """Say what is damaged, and what becomes of it."""
    told = [
        f"{names[key]} is damaged and counts as missing: {text.partition(';')[0]}"
        for (_, key), text in list(damaged.items())[:_DAMAGED_TOLD]
    ]
    if len(damaged) > len(told):
        told.append(f"{len(damaged) - len(told)} more are damaged and count as missing; see: headstart store verify")
    return told


def _dear(plan: Plan) -> list[str]:
    """Say where priors and their variants cost more steps than full runs of the same rows would."""
    rows: dict[str, list[int]] = {}
    for row in plan.variants_to_do:
        if not row.way.is_full:
            rows.setdefault(row.prior_key, []).append(row.steps)
    names, steps, full = [], 0, 0
    for prior in plan.priors_to_do:
        with_prior, in_full = (
            plan.full_steps + sum(rows.get(prior.key, ())),
            plan.full_steps * len(rows.get(prior.key, ())),
        )
        if rows.get(prior.key) and with_prior > in_full:
            names.append(prior.name)
            steps, full = steps + with_prior, full + in_full
    if not names:
        return []
    who = f"identity {names[0]!r} costs" if len(names) == 1 else f"{len(names)} identities cost"
    compared = f"{who} {steps} steps with a prior, and full runs of the same rows would cost {full}"
    return [f"{compared}; a prior pays when more rows share it. prior=auto runs such rows in full, prior=off all rows"]
