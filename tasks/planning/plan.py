"""What a batch would do: which keys its rows stand for, what the store has of them, what is left to run.

One pass, no weights, no GPU. Rows that cannot be right are told together, before anything runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prior_engine.errors import EngineError
from prior_engine.models.info import ModelInfo, inspect_model
from prior_engine.requests.cache import Cache, check_cache
from prior_engine.requests.conditioning import Conditioning, Lora
from prior_engine.requests.identity import Identity
from prior_engine.requests.pictures import Picture
from prior_engine.requests.prompt_length import PromptLength
from prior_engine.requests.schedule import check_told, count_steps, line_refusal
from prior_store import recipe_key
from tasks.errors import PlanError
from tasks.planning.advice import Advice, guidance_of, measured_start, study_name
from tasks.planning.model_source import spec_for
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.planning.recipes import cache_of, prior_recipe, variant_recipe
from tasks.planning.ways import Way, default_way, way_of
from tasks.settings import Settings
from tasks.sheets.pictures import PictureError, open_picture, resolve_picture
from tasks.sheets.rows import Row, Sheet

if TYPE_CHECKING:
    from prior_store import Store


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


@dataclass
class _Planner:
    settings: Settings
    sheet: Sheet
    info: ModelInfo
    measured: Advice | None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    priors: dict[str, PlannedPrior] = field(default_factory=dict)
    variants: dict[str, PlannedVariant] = field(default_factory=dict)
    pictures: dict[str, Picture | None] = field(default_factory=dict)
    loras: dict[str, Lora] = field(default_factory=dict)
    identities: dict[tuple[Any, ...], Identity | None] = field(default_factory=dict)
    prior_keys: dict[Identity, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.schedule = self.settings.schedule.for_engine
        self.schedule_recipe = self.schedule.describe()
        self.model_recipe = self.info.describe()
        # Not num_inference_steps: a Heun walk evaluates twice a step, a trimmed one runs fewer.
        self.total = count_steps(self.schedule, self.info)
        self.default, self.start_from = default_way(self.settings, self.total, self.measured)
        if (refused := line_refusal(self.info, self.schedule)) is not None and self.default.start == "line":
            self.problems.append(f"setting start: {refused}; set start=snapshot")
        self.lengths = PromptLength(self.info, self.settings.model.max_sequence_length)
        if self.lengths.unknown:
            self.notes.append(f"prompts may be cut off after {self.lengths.limit} tokens: {self.lengths.unknown}")
        self._check_length("setting negative_prompt", self.settings.negative_prompt)
        self.cache = self._cache()

    def _cache(self) -> Cache | None:
        try:
            return cache_of(self.settings)
        except EngineError as error:
            self.problems.append(f"setting accel.cache: {error}")
            return None

    def _check_length(self, place: str, text: str | None) -> None:
        tokens = self.lengths.over(text or "")
        if tokens is not None:
            self.problems.append(
                f"{place}: has {tokens} tokens and the text encoder takes {self.lengths.limit}, the rest would be cut off; shorten it"
            )

    def identity_of(self, row: Row) -> Identity | None:
        model = self.settings.model
        signature = (row.base_prompt, row.seed, row.image, row.last_image, row.width, row.height, row.frames)
        if signature in self.identities:
            return self.identities[signature]
        identity: Identity | None = None
        if row.base_prompt != row.prompt:
            self._check_length(f"{row.place}, column base_prompt", row.base_prompt)
        image, last = (self._picture(row, column) for column in ("image", "last_image"))
        if (row.image is None) == (image is None) and (row.last_image is None) == (last is None):
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    identity = Identity(
                        prompt=row.base_prompt,
                        negative_prompt=self.settings.negative_prompt or "",
                        seed=self.settings.seed if row.seed is None else row.seed,
                        height=row.height or model.height,
                        width=row.width or model.width,
                        frames=row.frames or model.frames,
                        image=image,
                        last_image=last,
                    ).fitted(self.info)
                self.notes += [f"{row.place}: {note.message}" for note in caught]
            except EngineError as error:
                self.problems.append(f"{row.place}: {error}")
        self.identities[signature] = identity
        return identity

    def _picture(self, row: Row, column: str) -> Picture | None:
        named = getattr(row, column)
        if named is None:
            return None
        if named not in self.pictures:
            picture = None
            try:
                location = resolve_picture(named, self.sheet.root, self.settings.sheet)
                picture = open_picture(location, self.settings.sheet.max_image_pixels)
            except PictureError as error:
                self.problems.append(f"{row.place}, column {column}: {error}")
            self.pictures[named] = picture
        return self.pictures[named]

    def prior_of(self, row: Row, identity: Identity) -> PlannedPrior:
        model, settings = self.settings.model, self.settings
        if identity in self.prior_keys:
            return self.priors[self.prior_keys[identity]]
        guidance = next(
            value for value in (settings.prior.guidance, settings.guidance, model.guidance) if value is not None
        )
        conditioning = Conditioning(
            prompt=identity.prompt,
            negative_prompt=identity.negative_prompt,
            guidance=guidance,
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
                tags=tuple(dict.fromkeys((*settings.tags, *row.tags))),
            )
        self.prior_keys[identity] = key
        return self.priors[key]

    def add(self, row: Row, keeps: Mapping[str, tuple[int, ...]]) -> None:
        identity = self.identity_of(row)
        if identity is None:
            return
        prior = self.prior_of(row, identity)
        parent = self.variants.get(row.parent) if row.parent else None
        if row.parent and parent is None:
            return  # the parent has a problem of its own, told already
        way = self._way(row, parent)
        if way is None:
            return
        conditioning = self._conditioning(row)
        if conditioning is None:
            return
        kept = keeps.get(row.id, ())
        try:
            check_cache(self.cache, self.info.family, conditioning.guidance, tail=way.tail, keeps=bool(kept))
        except EngineError as error:
            self.problems.append(f"{row.place}, setting accel.cache: {error}")
            return
        parent_key = parent.key if parent else prior.key
        recipe = variant_recipe(
            self.settings,
            parent_key=parent_key,
            conditioning=conditioning,
            way=way,
            keeps=kept,
            cache=self.cache,
            fps=self.settings.fps,
        )
        self.variants[row.id] = PlannedVariant(
            key=recipe_key(recipe),
            row_id=row.id,
            place=row.place,
            name=row.identity,
            prior=prior,
            parent_kind="variants" if parent else "priors",
            parent_key=parent_key,
            parent_row=row.parent,
            conditioning=conditioning,
            way=way,
            # Where a step is not one evaluation, only the solver knows the noise between them.
            sigma=self.schedule.sigma_after(way.start_step)
            if self.total == self.schedule.num_inference_steps
            else None,
            steps=self._steps_of(way),
            recipe=recipe,
            kept_steps=kept,
            cached=False,
            tags=tuple(dict.fromkeys((*self.settings.tags, *row.tags))),
        )

    def _way(self, row: Row, parent: PlannedVariant | None) -> Way | None:
        """How the row is walked, or None, with the problem told."""
        way, last = way_of(row, self.settings, self.default), self.total - 2
        problem = None
        if way.start_step > last:
            problem = f"column start_step: {way.start_step} is past the last step to start from; give 0..{last}, the schedule has {self.total} steps"
        elif parent is not None and parent.way.tail != "exact":
            problem = f"column parent: {parent.row_id!r} walks a re-spaced tail, whose steps are not the prior's; give it tail=exact"
        elif parent is not None and way.start_step <= parent.start_step:
            problem = f"column start_step: {way.start_step} is not after {parent.start_step}, where the parent {parent.row_id!r} itself starts; give {parent.start_step + 1}..{last}"
        if problem is not None:
            self.problems.append(f"{row.place}, {problem}")
            return None
        return way

    def _steps_of(self, way: Way) -> int:
        if way.tail == "exact":
            return self.total - 1 - way.start_step
        respaced = replace(self.schedule, grid="wan", sigmas=None, timesteps=None, num_inference_steps=way.tail)
        return count_steps(respaced, self.info)

    def _conditioning(self, row: Row) -> Conditioning | None:
        settings, model = self.settings, self.settings.model
        guidance = next(value for value in (row.guidance, settings.guidance, model.guidance) if value is not None)
        for column in ("prompt", "negative_prompt"):
            self._check_length(f"{row.place}, column {column}", getattr(row, column))
        loras = []
        for path, weight in row.lora:
            try:
                location = resolve_picture(path, self.sheet.root, settings.sheet)
                found = self.loras.get(location) or Lora.open(location)
                self.loras[location] = found
                loras.append(Lora(path=found.path, sha256=found.sha256, weight=weight))
            except (PictureError, EngineError) as error:
                self.problems.append(f"{row.place}, column lora: {error}")
                return None
        negative = row.negative_prompt if row.negative_prompt is not None else settings.negative_prompt
        return Conditioning(
            prompt=row.prompt,
            negative_prompt=negative or "",
            guidance=guidance,
            loras=tuple(loras),
            max_sequence_length=model.max_sequence_length,
        )


def make_plan(settings: Settings, sheet: Sheet, store: Store) -> Plan:
    """Resolve every row against model and store."""
    try:
        info = inspect_model(spec_for(settings))
    except EngineError as error:
        raise PlanError(f"model.source={settings.model.source!r}: {error}") from error
    planner = _Planner(
        settings=settings, sheet=sheet, info=info, measured=_measured(settings, info, store), notes=list(sheet.warnings)
    )
    rows = _parents_first(sheet.rows)
    keeps = _kept_for_children(rows, planner)
    for row in rows:
        planner.add(row, keeps)
    problems = list(dict.fromkeys(planner.problems))
    if problems:
        noun = "problem" if len(problems) == 1 else "problems"
        raise PlanError(
            f"{len(problems)} {noun} in {sheet.name}, nothing was run:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )
    return _with_cached(planner, store)


def _measured(settings: Settings, info: ModelInfo, store: Store) -> Advice | None:
    """What `headstart inflection` found and kept in this store."""
    schedule = settings.schedule.for_engine.describe()
    return measured_start(store, study_name(info.describe(), schedule, guidance_of(settings)))


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


def _kept_for_children(rows: Sequence[Row], planner: _Planner) -> dict[str, tuple[int, ...]]:
    """Which snapshots a variant keeps because another row starts from it."""
    keeps: dict[str, set[int]] = {}
    for row in rows:
        if row.parent is not None:
            way = way_of(row, planner.settings, planner.default)
            if way.start == "snapshot":
                keeps.setdefault(row.parent, set()).add(way.start_step)
    return {row_id: tuple(sorted(steps)) for row_id, steps in keeps.items()}


def _with_cached(planner: _Planner, store: Store) -> Plan:
    known = store.rows_by_key([*planner.priors, *(variant.key for variant in planner.variants.values())])
    done = {key for key, row in known.items() if row["status"] == "done"}
    needed: dict[str, set[int]] = {}
    for variant in planner.variants.values():
        if variant.parent_kind == "priors" and variant.way.start == "snapshot":
            needed.setdefault(variant.parent_key, set()).add(variant.start_step)
    priors = {
        key: replace(prior, cached=key in done, needed_steps=tuple(sorted(needed.get(key, ()))))
        for key, prior in planner.priors.items()
    }
    return Plan(
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
        warnings=tuple(dict.fromkeys(planner.notes)),
    )
