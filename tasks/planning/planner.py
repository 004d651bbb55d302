"""From rows to planned priors and variants: one pass over the sheet, every mistake gathered, nothing run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from prior_engine.errors import EngineError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.cache import Cache, check_cache
from prior_engine.requests.conditioning import Conditioning, Lora
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import check_told, count_steps, line_refusal
from prior_store import recipe_key
from tasks.planning.advice import Advice, guidance_of, second_guidance
from tasks.planning.distilled import ITS_OWN_STEPS, refused_by
from tasks.planning.given import Given
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.planning.recipes import cache_of, prior_recipe, variant_recipe
from tasks.planning.ways import FULL, Way, default_way, way_of
from tasks.settings import Settings
from tasks.sheets.rows import Row, Sheet


@dataclass
class Planner:
    """Walks the rows once, parents before children; `problems` and `notes` hold what there is to say of them."""

    settings: Settings
    sheet: Sheet
    info: ModelInfo
    measured: Advice | None
    loras: tuple[Lora, ...] = ()
    priors: dict[str, PlannedPrior] = field(default_factory=dict)
    variants: dict[str, PlannedVariant] = field(default_factory=dict)
    _prior_keys: dict[Identity, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.given = Given(
            self.settings, self.info, self.sheet.root, self.loras, self.measured, notes=list(self.sheet.warnings)
        )
        self.problems, self.notes = self.given.problems, self.given.notes
        self.schedule = self.settings.schedule.for_engine
        self.schedule_recipe = self.schedule.describe()
        self.model_recipe = self.info.describe()
        # Not num_inference_steps: a Heun walk evaluates twice a step, a trimmed one runs fewer.
        self.total = count_steps(self.schedule, self.info)
        try:
            self.default, self.start_from = default_way(self.settings, self.total, self.measured, self._levels)
        except ValueError as problem:
            self.problems.append(str(problem))
            self.default, self.start_from = FULL, ""
        if (refused := line_refusal(self.info, self.schedule)) is not None and self.default.start == "line":
            self.problems.append(f"setting start: {refused}; set start=snapshot")
        self.problems += refused_by(self.settings)
        self.cache = self._cache()

    def _levels(self) -> Sequence[float] | None:
        """The noise left after each step, or None where only the run itself will know."""
        known = self.schedule.sigmas_for()
        if known is not None and len(known) == self.total:
            return (*known[1:], 0.0)
        from prior_engine.runs.solvers.solver import levels_after  # this one needs diffusers

        try:
            return levels_after(self.schedule, self.info)
        except EngineError:
            return None  # what is wrong with the schedule is told where it is asked for

    def _cache(self) -> Cache | None:
        try:
            return cache_of(self.settings)
        except EngineError as error:
            self.problems.append(f"setting accel.cache: {_without_ratios(self.settings) or error}")
            return None

    def add_all(self, rows: Sequence[Row]) -> None:
        """Plan every row."""
        keeps = self._kept_for_children(rows)
        full = self._run_in_full(rows)
        for row in rows:
            self._add(row, keeps.get(row.id, ()), full)
        self._tell_dropped(rows)
        self._tell_worn(rows)

    def _kept_for_children(self, rows: Sequence[Row]) -> dict[str, tuple[int, ...]]:
        """Which snapshots a variant keeps because another row starts from it."""
        keeps: dict[str, set[int]] = {}
        for row in rows:
            if row.parent is not None:
                way = way_of(row, self.settings, self.default)
                if way.start == "snapshot":
                    keeps.setdefault(row.parent, set()).add(way.start_step)
        return {row_id: tuple(sorted(steps)) for row_id, steps in keeps.items()}

    def _run_in_full(self, rows: Sequence[Row]) -> set[Identity]:
        """The identities whose rows are run in full, without a prior: as told, or where that takes fewer steps.

        Counted over the sheet, whatever of it is made already: the same sheet means the same keys.
        """
        if all((row.prior or self.settings.prior.use) == "on" for row in rows):
            return set()
        steps: dict[Identity, list[int]] = {}
        asked: dict[Identity, str] = {}
        for row in rows:
            identity = self.given.identity_of(row)
            if identity is not None:
                steps.setdefault(identity, []).append(self._steps_of(way_of(row, self.settings, self.default)))
                asked[identity] = row.prior or self.settings.prior.use
        return {
            identity
            for identity, use in asked.items()
            if use == "off" or (use == "auto" and self.total + sum(steps[identity]) > self.total * len(steps[identity]))
        }

    def _tell_dropped(self, rows: Sequence[Row]) -> None:
        """A start step of a row's own is taken as it stands: what was measured for another step does not go with it."""
        if self.default.start != "line" or self.settings.start != "auto":
            return
        dropped = [row for row in rows if row.start_step not in {None, "auto"} and row.start is None]
        if dropped:
            self.notes.append(
                f"{dropped[0].place}{f' and {len(dropped) - 1} more rows' if len(dropped) > 1 else ''}: a row with its own "
                f"start_step starts from the snapshot, not on the straight line like the others; add start=line "
                f"(and tail={self.default.tail}) to the row to keep it there"
            )

    def _tell_worn(self, rows: Sequence[Row]) -> None:
        """A LoRA of a row's own meets a prior that was recorded without it."""
        worn = [row for row in rows if row.lora and (row.prior or self.settings.prior.use) != "off"]
        if worn:
            more = f" and {len(worn) - 1} more" if len(worn) > 1 else ""
            self.notes.append(
                f"{worn[0].place}{more}: wears a LoRA that its prior does not, so what the prior settled is without it; "
                "name it in model.loras if every row is to wear it"
            )

    def _prior_of(self, row: Row, identity: Identity) -> PlannedPrior:
        model, settings = self.settings.model, self.settings
        if identity in self._prior_keys:
            return self.priors[self._prior_keys[identity]]
        guidance = settings.prior.guidance
        if guidance is None:
            guidance = guidance_of(settings, full=True)
        conditioning = Conditioning(
            prompt=identity.prompt,
            negative_prompt=identity.negative_prompt,
            guidance=guidance,
            guidance_2=second_guidance(settings, guidance),
            loras=self.loras,
            max_sequence_length=model.max_sequence_length,
        )
        try:
            check_told(self.info, conditioning, self.schedule)
        except EngineError as error:
            self.problems.append(f"setting schedule: {error}")
        recipe = prior_recipe(self.model_recipe, identity, conditioning, self.schedule_recipe)
        key = recipe_key(recipe)
        if key not in self.priors:
            self.priors[key] = PlannedPrior(
                key=key,
                name=row.identity,
                identity=identity,
                conditioning=conditioning,
                schedule=self.schedule,
                recipe=recipe,
                needed_steps=(),
                steps=self.total,
                cached=False,
                tags=self._tags_of(row),
            )
        self._prior_keys[identity] = key
        return self.priors[key]

    def _add(self, row: Row, kept: tuple[int, ...], full: set[Identity]) -> None:
        identity = self.given.identity_of(row)
        if identity is None:
            return
        prior = self._prior_of(row, identity)
        parent = self.variants.get(row.parent) if row.parent else None
        if row.parent and parent is None:
            return  # the parent has a problem of its own, told already
        way = FULL if identity in full and parent is None else self._way(row, parent)
        conditioning = None if way is None else self.given.conditioning_of(row, full=way.is_full)
        if way is None or conditioning is None:
            return
        try:
            check_cache(self.cache, self.info.family, conditioning.guidance, tail=way.tail, keeps=bool(kept))
        except EngineError as error:
            self.problems.append(f"{row.place}, setting accel.cache: {error}")
            return
        parent_key = parent.key if parent else prior.key
        recipe = variant_recipe(
            self.settings, prior.recipe, parent_key, conditioning, way, keeps=kept, cache=self.cache
        )
        self.variants[row.id] = PlannedVariant(
            key=recipe_key(recipe),
            row_id=row.id,
            place=row.place,
            name=row.identity,
            prior=prior,
            parent_kind="variants" if parent else "" if way.is_full else "priors",
            parent_key="" if way.is_full else parent_key,
            parent_row=row.parent,
            conditioning=conditioning,
            way=way,
            sigma=self._sigma_of(way),
            steps=self._steps_of(way),
            recipe=recipe,
            kept_steps=kept,
            cached=False,
            tags=self._tags_of(row),
        )

    def _tags_of(self, row: Row) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.settings.tags, *row.tags)))

    def _sigma_of(self, way: Way) -> float | None:
        """The noise that is left at the start; where a step is not one evaluation, only the solver knows it."""
        if way.is_full or self.total != self.schedule.num_inference_steps:
            return None
        return self.schedule.sigma_after(way.start_step)

    def _way(self, row: Row, parent: PlannedVariant | None) -> Way | None:
        """How the row is walked, or None, with the problem told."""
        way, last = way_of(row, self.settings, self.default), self.total - 2
        problem = None
        if way.start_step > last:
            problem = f"column start_step: {way.start_step} is past the last step to start from; give 0..{last}, the schedule has {self.total} steps"
        elif way.tail != "exact" and self.settings.schedule.tails == "exact" and self.settings.tail == "auto":
            problem = f"column tail: {way.tail} re-spaces the steps, and {ITS_OWN_STEPS}; give tail=exact"
        elif parent is not None and parent.way.tail != "exact":
            problem = f"column parent: {parent.row_id!r} has a re-spaced tail, whose steps are not the prior's; set tail=exact there"
        elif parent is not None and way.start_step <= parent.start_step:
            problem = f"column start_step: {way.start_step} is not after {parent.start_step}, where the parent {parent.row_id!r} itself starts; use {parent.start_step + 1}..{last}"
        if problem is not None:
            self.problems.append(f"{row.place}, {problem}")
            return None
        return way

    def _steps_of(self, way: Way) -> int:
        if way.tail == "exact":
            return self.total - 1 - way.start_step
        respaced = replace(self.schedule, grid="wan", sigmas=None, timesteps=None, num_inference_steps=way.tail)
        return count_steps(respaced, self.info)


def _without_ratios(settings: Settings) -> str | None:
    """What to do where nothing was measured for the cache `mag`, or None if it lacks nothing."""
    if settings.accel.cache != "mag" or settings.accel.cache_options.get("mag_ratios"):
        return None
    return (
        "the cache 'mag' needs the ratios of this model, schedule and guidance, and the store has none; "
        "measure them first, with the same sheet and settings: `headstart calibrate`"
    )
