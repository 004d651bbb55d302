"""The engine's face: record a prior, resume from any of its steps, decode what comes out."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.loaded import calls as rules
from prior_engine.loaded.adapters import Adapters
from prior_engine.loaded.caches import Cache, applied, check_cache
from prior_engine.loaded.components import Components, explained_memory, repeatable
from prior_engine.loaded.embeddings import Conditions, Embedding
from prior_engine.loaded.encoders import Texts
from prior_engine.models.spec import ModelInfo, ModelSpec, inspect_model
from prior_engine.requests.request import Conditioning, Identity, embedding_recipe
from prior_engine.requests.schedule import (
    History,
    Schedule,
    Tail,
    check_start_step,
    check_told,
    count_steps,
    line_refusal,
)
from prior_engine.runs import record as recording
from prior_engine.runs import resume as resuming
from prior_engine.runs.noise import generator_for
from prior_engine.runs.resume import VariantResult
from prior_engine.runs.snapshot import Snapshot
from prior_engine.runs.solver import build_scheduler, expert_spans, grid_of
from prior_engine.runs.walk import Cancel, OnStep, Walk, prepare, walk

if TYPE_CHECKING:
    import numpy as np
    import torch

Embeddings = Mapping[tuple[str, str, int | None], Embedding]


class ResumeOptions(TypedDict, total=False):
    """What a resumed run can be given beside its snapshot and its request."""

    pins: Mapping[str, Any] | None
    tail: Tail
    history: History
    line: int | None
    keep: recording.Keep
    cache: Cache | None
    cancel: Cancel | None
    on_step: OnStep | None
    embeddings: Embeddings | None
    conditions: Conditions | None


class Engine:
    """One model, warm. Components come when they are first needed; one run at a time."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.info: ModelInfo = inspect_model(spec)
        self._components = Components(spec, self.info)
        self._texts = Texts(self._components)
        self._adapters = Adapters()
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """Where the work is done: 'cuda', 'mps' or 'cpu'."""
        return self._components.device

    def has(self, name: str) -> bool:
        """Whether a component is in memory now."""
        return self._components.has(name)

    def free(self, name: str) -> None:
        """Give a component's memory back: 'text_encoder', 'image_encoder', 'vae_encoder', 'transformer', ..."""
        with self._lock:
            self._components.free(name)

    # --- conditions -------------------------------------------------------------------------------------------------

    def embedding_recipe(self, conditioning: Conditioning) -> dict[str, Any]:
        """All that decides what the text encoder makes of `conditioning`; its digest can name the embedding."""
        return embedding_recipe(self.info, conditioning)

    def encode(self, conditionings: Sequence[Conditioning]) -> dict[tuple[str, str, int | None], Embedding]:
        """Embeddings by `Conditioning.texts`; each distinct text goes through the encoder once."""
        with self._lock, explained_memory(), repeatable(wanted=self.spec.deterministic):
            return self._texts.embeddings(conditionings)

    def conditions(self, identity: Identity) -> Conditions:
        """What the picture and video encoders make of `identity`: with it, a run needs none of them in memory."""
        identity = identity.fitted(self.info)
        if self.info.family.trims_strength or not self.info.family.takes:
            return Conditions()
        with self._lock, explained_memory(), repeatable(wanted=self.spec.deterministic):
            seen = self._components.memo.watch()
            self._components.need_expert()
            schedule = Schedule(scheduler=None, grid="diffusers", num_inference_steps=2, sigma_shift=None)
            told = Conditioning(prompt=identity.prompt, guidance=1.0)
            arguments = rules.arguments(self.info, identity, told, schedule, resumes=False)
            arguments |= rules.blank_embeddings(self.info, self.device)
            arguments["generator"] = generator_for(identity.seed)
            prepare(self._components.pipe, build_scheduler(schedule, self.info), arguments)
            return self._components.memo.taken(seen)

    # --- runs -------------------------------------------------------------------------------------------------------

    def pins(self, identity: Identity, conditioning: Conditioning, schedule: Schedule) -> dict[str, Any]:
        """Everything that must match between a prior and its variants."""
        return dict(self._plan(identity.fitted(self.info), [conditioning], schedule, None).pins)

    def record(
        self,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        keep: recording.Keep = "all",
        after: Snapshot | None = None,
        cancel: Cancel | None = None,
        on_step: OnStep | None = None,
        embeddings: Embeddings | None = None,
        conditions: Conditions | None = None,
    ) -> Iterator[Snapshot]:
        """Run an identity in full; yield the kept snapshots as they are made, each while the next step runs.

        `after` goes on with a run that broke off after that snapshot, and ends with the same bits.
        `cancel` and `on_step` are called between steps, from the thread that does the work.
        """
        identity = identity.fitted(self.info)
        plan = self._plan(identity, [conditioning], schedule, after)
        chosen = recording.keeper(keep, plan.steps)
        if after is not None:
            resuming.check_pins(after.pins, plan.pins)
            resuming.check_same_told(after, conditioning)
            check_start_step(after.step, after.steps)

        def run(emit: recording.Emit, gone: Cancel) -> None:
            def stop() -> bool:
                return gone() or (cancel is not None and cancel())

            more = {"keep": chosen, "emit": emit, "cancel": stop, "on_step": on_step}
            self._walk(plan, identity, [conditioning], schedule, embeddings, conditions, None, **more)

        return recording.stream(run)

    def resume(
        self,
        snapshot: Snapshot,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        **options: Unpack[ResumeOptions],
    ) -> VariantResult:
        """Run what is left after `snapshot`, told something else; told the same, it gives the same bits."""
        return self.resume_batch(snapshot, identity, [conditioning], schedule, batch_size=1, **options)[0]

    def resume_batch(
        self,
        snapshot: Snapshot,
        identity: Identity,
        conditionings: Sequence[Conditioning],
        schedule: Schedule,
        *,
        batch_size: int | None = None,
        pins: Mapping[str, Any] | None = None,
        tail: Tail = "exact",
        history: History = "keep",
        line: int | None = None,
        keep: recording.Keep = (),
        cache: Cache | None = None,
        cancel: Cancel | None = None,
        on_step: OnStep | None = None,
        embeddings: Embeddings | None = None,
        conditions: Conditions | None = None,
    ) -> list[VariantResult]:
        """Several variants of one prior in one forward, padded to `batch_size`.

        For a fixed batch size a result depends neither on its companions nor on its place among them.
        With `line`, `snapshot` is a prior's last one, and the run starts on the straight line between it and the prior's
        first noise, as far up as the noise that the schedule has left after step `line`.
        """
        identity = identity.fitted(self.info)
        told = self._padded(conditionings, batch_size or len(conditionings))
        if line is not None:
            refused = line_refusal(self.info, schedule)
            if refused is not None:
                raise UnsupportedError(refused)
            snapshot, history = resuming.on_the_line(snapshot, line), "fresh"
        resuming.check_history(snapshot, tail, history)
        check_cache(cache, self.info.family, told[0].guidance, tail=tail, keeps=bool(keep))
        plan = self._plan(identity, told, schedule, snapshot)
        for expected in (snapshot.pins, pins):
            if expected is not None:
                resuming.check_pins(expected, plan.pins)
        check_start_step(snapshot.step, snapshot.steps)
        walked = schedule
        if tail != "exact":
            walked, history = resuming.tail_schedule(schedule, snapshot, tail), "fresh"
            plan = self._plan(identity, told, walked, snapshot, restarts=True)
        plan = replace(plan, keeps_history=history == "keep", adds_noise=line is not None)
        made = self._measured(
            plan, identity, told, walked, embeddings, conditions, cache, keep, cancel=cancel, on_step=on_step
        )
        whole = replace(made, sigma=snapshot.sigma, tail="exact" if tail == "exact" else "re-spaced", history=history)
        return [whole.sample(index) for index in range(len(conditionings))]

    def scratch(
        self,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        keep: recording.Keep = (),
        cache: Cache | None = None,
        cancel: Cancel | None = None,
        on_step: OnStep | None = None,
        embeddings: Embeddings | None = None,
        conditions: Conditions | None = None,
    ) -> VariantResult:
        """A run without a prior: the control that every variant stands beside."""
        identity = identity.fitted(self.info)
        plan = self._plan(identity, [conditioning], schedule, None)
        told = [conditioning]
        return self._measured(
            plan, identity, told, schedule, embeddings, conditions, cache, keep, cancel=cancel, on_step=on_step
        )

    def decode(self, latents: "Snapshot | torch.Tensor") -> "Iterator[np.ndarray[Any, Any]]":
        """The frames of a finished run, one by one, as uint8 height x width x 3; other runs may go on meanwhile."""
        from prior_engine.loaded.decode import frames_of

        return frames_of(self._components, latents, self._lock)

    def _plan(
        self,
        identity: Identity,
        told: Sequence[Conditioning],
        schedule: Schedule,
        origin: Snapshot | None,
        *,
        restarts: bool = False,
    ) -> Walk:
        check_told(self.info, told[0], schedule)
        scheduler = build_scheduler(schedule, self.info)
        return Walk(
            scheduler=scheduler,
            steps=count_steps(schedule, self.info),
            grid=grid_of(schedule, scheduler),
            origin=origin,
            restarts=restarts,
            generators=[generator_for(identity.seed) for _ in told],
            pins=resuming.pins_of(self.info, identity, schedule, scheduler),
            told=tuple(one.describe() for one in told),
            batch_size=len(told),
        )

    def _measured(
        self,
        plan: Walk,
        identity: Identity,
        told: Sequence[Conditioning],
        schedule: Schedule,
        embeddings: Embeddings | None,
        conditions: Conditions | None,
        cache: Cache | None,
        keep: recording.Keep,
        **more: Any,
    ) -> VariantResult:
        kept: list[Snapshot] = []
        started = time.perf_counter()
        more |= {"keep": recording.keeper(keep, plan.steps), "emit": kept.append}
        final = self._walk(plan, identity, told, schedule, embeddings, conditions, cache, **more)
        return VariantResult(
            latents=final,
            kept=tuple(kept),
            steps_run=plan.steps - plan.first,
            sigma=final.sigmas[0] if final.sigmas else 1.0,
            seconds=time.perf_counter() - started,
            tail="none",
            history="fresh",
            schedule=schedule,
            batch_size=plan.batch_size,
        )

    def _walk(
        self,
        plan: Walk,
        identity: Identity,
        told: Sequence[Conditioning],
        schedule: Schedule,
        embeddings: Embeddings | None,
        conditions: Conditions | None,
        cache: Cache | None,
        **more: Any,
    ) -> Snapshot:
        import torch

        parts = self._components
        check_cache(cache, self.info.family, told[0].guidance)
        with self._lock, explained_memory(), repeatable(wanted=self.spec.deterministic):
            given = [(embeddings or {}).get(one.texts) or self._texts.embedding(one) for one in told]
            parts.memo.watch()
            if conditions is not None:
                parts.memo.add(conditions)
            spans = expert_spans(plan, schedule, self.info)
            parts.need(*spans)
            self._adapters.wear(parts.pipe, told[0].loras)
            arguments = rules.arguments(self.info, identity, told[0], schedule, resumes=plan.origin is not None)
            arguments |= rules.embedding_arguments(self.info, given, self.device)
            experts = {name: getattr(parts.pipe, name) for name in spans}
            with applied(cache, parts.pipe, experts, spans=spans):
                return walk(parts.pipe, plan, arguments, device=torch.device(self.device), **more)

    def _padded(self, conditionings: Sequence[Conditioning], batch_size: int) -> list[Conditioning]:
        if not 1 <= len(conditionings) <= batch_size:
            raise RequestError(
                f"{len(conditionings)} variants do not fit a batch of {batch_size}; give 1 to {batch_size}"
            )
        reason = self.info.family.single_batch
        if batch_size > 1 and reason is not None:
            raise RequestError(
                f"the family {self.info.family.name!r} runs one at a time, for {reason}; set batch_size=1"
            )
        shared = {(one.guidance, one.guidance_2, one.loras, one.max_sequence_length) for one in conditionings}
        if len(shared) > 1:
            raise RequestError(
                "the variants of one batch differ in guidance, LoRA weights or prompt length; batch them apart"
            )
        return [*conditionings, *[conditionings[-1]] * (batch_size - len(conditionings))]
