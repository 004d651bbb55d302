"""The engine's face: record a prior, resume from any of its steps, decode what comes out."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.loaded import calls as rules
from prior_engine.loaded.adapters import Adapters
from prior_engine.loaded.caches import applied, calibrating
from prior_engine.loaded.components import Components
from prior_engine.loaded.memory import explained_memory
from prior_engine.loaded.repeatable import repeatable
from prior_engine.loaded.texts import Texts
from prior_engine.models.info import ModelInfo, inspect_model
from prior_engine.models.spec import ModelSpec
from prior_engine.requests.asked import Asked, filled_up
from prior_engine.requests.cache import check_cache, check_kind
from prior_engine.requests.conditioning import Conditioning, embedding_recipe
from prior_engine.requests.embeddings import Conditions, Embedding
from prior_engine.requests.identity import Identity
from prior_engine.requests.options import Cancel, ResumeOptions, RunOptions
from prior_engine.requests.schedule import Schedule, line_refusal
from prior_engine.requests.steps import Keep, check_start_step
from prior_engine.runs import record as recording
from prior_engine.runs.merged import in_one_pass
from prior_engine.runs.noise import generator_for
from prior_engine.runs.pins import check_pins, check_same_told
from prior_engine.runs.plan import planned
from prior_engine.runs.result import VariantResult
from prior_engine.runs.snapshot import Snapshot
from prior_engine.runs.solvers.solver import build_scheduler, expert_spans
from prior_engine.runs.solvers.window import prepare
from prior_engine.runs.start import on_the_line
from prior_engine.runs.tail import check_history, tail_schedule
from prior_engine.runs.walk import Walk, walk

if TYPE_CHECKING:
    import numpy as np
    import torch

_EVERY_STEP, _NO_STEP = Keep("all"), Keep(())
_PLAINLY, _TO_THE_END = RunOptions(), ResumeOptions()


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
        return dict(planned(self.info, Asked(identity.fitted(self.info), [conditioning], schedule)).pins)

    def record(
        self,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        after: Snapshot | None = None,
        options: RunOptions = _PLAINLY,
    ) -> Iterator[Snapshot]:
        """Run an identity in full; yield the kept snapshots as they are made, each while the next step runs.

        `after` goes on with a run that broke off after that snapshot, and ends with the same bits.
        """
        asked = Asked(identity.fitted(self.info), [conditioning], schedule)
        check_cache(options.cache, self.info.family, conditioning.guidance, keeps=True)
        plan = planned(self.info, asked, after)
        plan = replace(plan, keep=options.kept(plan.steps, _EVERY_STEP))
        if after is not None:
            check_pins(after.pins, plan.pins)
            check_same_told(after, conditioning)
            check_start_step(after.step, after.steps)

        def run(emit: recording.Emit, gone: Cancel) -> None:
            def stop() -> bool:
                return gone() or (options.cancel is not None and options.cancel())

            self._walk(plan, asked, replace(options, cancel=stop), emit)

        return recording.stream(run)

    def resume(
        self,
        snapshot: Snapshot,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        how: ResumeOptions = _TO_THE_END,
        options: RunOptions = _PLAINLY,
    ) -> VariantResult:
        """Run what is left after `snapshot`, told something else; told the same, it gives the same bits."""
        return self.resume_batch(snapshot, identity, [conditioning], schedule, how=how, options=options)[0]

    def resume_batch(
        self,
        snapshot: Snapshot,
        identity: Identity,
        conditionings: Sequence[Conditioning],
        schedule: Schedule,
        *,
        batch_size: int | None = None,
        how: ResumeOptions = _TO_THE_END,
        options: RunOptions = _PLAINLY,
    ) -> list[VariantResult]:
        """Several variants of one prior in one forward, padded to `batch_size`.

        For a fixed batch size a result depends neither on its companions nor on its place among them.
        """
        told = filled_up(self.info, conditionings, batch_size or len(conditionings))
        asked = Asked(identity.fitted(self.info), told, schedule)
        history = how.history
        if how.line is not None:
            refused = line_refusal(self.info, schedule)
            if refused is not None:
                raise UnsupportedError(refused)
            snapshot, history = on_the_line(snapshot, how.line), "fresh"
        check_history(snapshot, how.tail, history)
        plan = planned(self.info, asked, snapshot)
        for expected in (snapshot.pins, how.pins):
            if expected is not None:
                check_pins(expected, plan.pins)
        check_start_step(snapshot.step, snapshot.steps)
        if how.tail != "exact":
            asked, history = replace(asked, schedule=tail_schedule(schedule, snapshot, how.tail)), "fresh"
            plan = planned(self.info, asked, snapshot, restarts=True)
        plan = replace(
            plan,
            keeps_history=history == "keep",
            adds_noise=how.line is not None,
            keep=options.kept(plan.steps, _NO_STEP),
        )
        check_cache(options.cache, self.info.family, told[0].guidance, tail=how.tail, keeps=bool(plan.keep))
        made = self._measured(plan, asked, options)
        whole = replace(
            made, sigma=snapshot.sigma, tail="exact" if how.tail == "exact" else "re-spaced", history=history
        )
        return [whole.sample(index) for index in range(len(conditionings))]

    def scratch(
        self,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        options: RunOptions = _PLAINLY,
    ) -> VariantResult:
        """A run without a prior: the control that every variant stands beside."""
        asked = Asked(identity.fitted(self.info), [conditioning], schedule)
        plan = planned(self.info, asked)
        plan = replace(plan, keep=options.kept(plan.steps, _NO_STEP))
        check_cache(options.cache, self.info.family, conditioning.guidance, keeps=bool(plan.keep))
        return self._measured(plan, asked, options)

    def calibrate(
        self,
        identity: Identity,
        conditioning: Conditioning,
        schedule: Schedule,
        *,
        options: RunOptions = _PLAINLY,
    ) -> tuple[VariantResult, tuple[float, ...]]:
        """A run without a prior, and the `mag_ratios` of its steps: what the cache 'mag' needs, at no change of bits."""
        if options.cache is not None or options.keep is not None:
            raise RequestError("a calibrating run uses no cache and keeps no snapshots; leave both out")
        asked = Asked(identity.fitted(self.info), [conditioning], schedule)
        check_kind("mag", self.info.family, conditioning.guidance)
        ratios: list[float] = []
        made = self._measured(planned(self.info, asked), asked, options, ratios)
        return made, tuple(ratios)

    def decode(self, latents: "Snapshot | torch.Tensor") -> "Iterator[np.ndarray[Any, Any]]":
        """The frames of a finished run, one by one, as uint8 height x width x 3; other runs may go on meanwhile."""
        from prior_engine.decode import frames_of

        return frames_of(self._components, latents, self._lock)

    def _measured(
        self, plan: Walk, asked: Asked, options: RunOptions, ratios: list[float] | None = None
    ) -> VariantResult:
        kept: list[Snapshot] = []
        started = time.perf_counter()
        final = self._walk(plan, asked, options, kept.append, ratios)
        return VariantResult(
            latents=final,
            kept=tuple(kept),
            steps_run=plan.steps - plan.first,
            sigma=final.sigmas[0] if final.sigmas else 1.0,
            seconds=time.perf_counter() - started,
            tail="none",
            history="fresh",
            schedule=asked.schedule,
            batch_size=plan.batch_size,
        )

    def _walk(
        self,
        plan: Walk,
        asked: Asked,
        options: RunOptions,
        emit: recording.Emit,
        ratios: list[float] | None = None,
    ) -> Snapshot:
        import torch

        parts, told, schedule = self._components, asked.told, asked.schedule
        with self._lock, explained_memory(), repeatable(wanted=self.spec.deterministic):
            given = [options.embeddings.get(one.texts) or self._texts.embedding(one) for one in told]
            parts.memo.watch()
            if options.conditions is not None:
                parts.memo.add(options.conditions)
            spans = expert_spans(schedule, self.info, grid=plan.grid, begin=plan.begin, steps=plan.steps)
            parts.need(*spans)
            self._adapters.wear(parts.pipe, told[0].loras)
            arguments = rules.arguments(self.info, asked.identity, told[0], schedule, resumes=plan.origin is not None)
            arguments |= rules.embedding_arguments(self.info, given, self.device)
            experts = {name: getattr(parts.pipe, name) for name in spans}
            if (options.cache is not None or ratios is not None) and self.spec.merge_guidance:
                raise RequestError(
                    "a cache would not tell the two passes of merge_guidance apart; leave one of them out"
                )
            with contextlib.ExitStack() as stack:
                if ratios is None:
                    stack.enter_context(applied(options.cache, parts.pipe, experts, spans=spans))
                else:
                    measured = stack.enter_context(calibrating(experts, spans=spans))
                    options = _looking(options, measured, ratios)
                stack.enter_context(in_one_pass(experts.values(), arguments, wanted=self.spec.merge_guidance))
                return walk(parts.pipe, plan, arguments, options, device=torch.device(self.device), emit=emit)


def _looking(options: RunOptions, measured: Callable[[], tuple[float, ...]], ratios: list[float]) -> RunOptions:
    """Take what was measured after each step: the pipeline forgets it as it ends."""

    def on_step(step: int, steps: int) -> None:
        ratios[:] = measured()
        if options.on_step is not None:
            options.on_step(step, steps)

    return replace(options, on_step=on_step)
