"""Variants of one prior: a snapshot in, the steps that are left, latents and a video out, published.

While one variant is decoded and written, the next one walks: a helper thread finishes what this one has denoised.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.devices import Lease
from tasks.making.encode import embeddings_for
from tasks.making.ended import failed, list_rows, manifest_row
from tasks.making.guard import Look, earlier, look
from tasks.making.parents import Parents
from tasks.making.prior import step_file, versions
from tasks.making.runtime import Runtime, runtime_for
from tasks.making.scratch import scratch_folder
from tasks.making.video import write_files
from tasks.planning.planned import PlannedPrior, PlannedVariant
from tasks.planning.recipes import cache_of
from tasks.result import Result

if TYPE_CHECKING:
    from prior_engine import VariantResult
    from prior_store import Claim

log = logging.getLogger("headstart")


def make_variants(chunk: tuple[PlannedVariant, ...], context: Context) -> list[Result]:
    """Have every variant of `chunk`, all of one prior, in the store; one that cannot be made is a result that says why."""
    runtime = runtime_for(context)
    if runtime.stop.is_set():
        raise InterruptedBatchError("the batch was asked to stop")
    making = _Chunk(chunk[0].prior, context, runtime)
    results = making.run(chunk)
    bad = {result.id: result for result in results if result.failed}
    if bad:
        list_rows(
            runtime.store, [manifest_row(work, context, bad[work.row_id]) for work in chunk if work.row_id in bad]
        )
    if making.stopped:
        raise InterruptedBatchError(
            f"{len(chunk) - len(results)} of {len(chunk)} rows were not begun or stopped at a step boundary", results
        )
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What was walked for a row, the guard's second try included."""

    result: VariantResult
    start: int
    steps_run: int
    seconds: float
    look: Look | None = None


class _Chunk:
    def __init__(self, prior: PlannedPrior, context: Context, runtime: Runtime) -> None:
        self.prior, self.context, self.runtime = prior, context, runtime
        self.stopped = False
        # Rows of a longer chunk are listed together at its end; a kill before that costs the rows, not the work.
        self._rows: list[Mapping[str, Any]] = []
        self._parents = Parents(runtime.store)

    def run(self, chunk: Sequence[PlannedVariant]) -> list[Result]:
        """One after the other through the device; decoding and writing run behind."""
        try:
            return self._run(chunk)
        finally:
            if self._rows:
                list_rows(self.runtime.store, self._rows)

    def _run(self, chunk: Sequence[PlannedVariant]) -> list[Result]:
        finishing: list[Future[Result | None]] = []
        # One row may wait for its file to be written while the next walks; more would only hold memory.
        room = threading.BoundedSemaphore(2)
        with ThreadPoolExecutor(1, thread_name_prefix="headstart-write") as writer:
            for work in chunk:
                room.acquire()
                finishing.append(self._begin(work, writer, room))
                if self.runtime.stop.is_set():
                    self.stopped = True
                    break
        return [result for result in (future.result() for future in finishing) if result is not None]

    def _begin(
        self, work: PlannedVariant, writer: ThreadPoolExecutor, room: threading.BoundedSemaphore
    ) -> Future[Result | None]:
        from prior_engine.errors import RunCancelledError
        from prior_store.errors import ClaimCancelledError

        held = ExitStack()
        try:
            claim = held.enter_context(self._claim(work))
            if claim.commit is not None:
                self._rows.append(claim.commit.row)
                ended: Result | None = self._cached(work)
            else:
                finish = self._denoised(work, claim)
                return writer.submit(self._finished, work, held, room, finish)
        except (RunCancelledError, ClaimCancelledError, InterruptedBatchError):
            self.stopped = True
            ended = None
        except Exception as error:  # noqa: BLE001  a failed row is data; the rows beside it go on
            ended = self._failed(work, error)
        held.close()
        room.release()
        future: Future[Result | None] = Future()
        future.set_result(ended)
        return future

    def _claim(self, work: PlannedVariant) -> Any:
        settings = self.context.settings
        return self.runtime.store.claim(
            "variants",
            work.key,
            ttl_s=settings.prior.lease_s,
            wait_s=settings.prior.wait_s,
            on_wait=self.runtime.say_once(f"{work.label} is being made by"),
            cancel=self.runtime.stop.is_set,
        )

    def _cached(self, work: PlannedVariant) -> Result:
        return Result(id=work.row_id, kind="variant", key=work.key, identity=work.name, status="cached")

    def _failed(self, work: PlannedVariant, error: Exception) -> Result:
        log.error("%s failed: %s", work.label, error, exc_info=log.isEnabledFor(logging.DEBUG))
        result = failed(work, error, self.context)
        if result.for_all:
            self.runtime.stop.set()  # the other rows of the chunk would only come to the same end
        return result

    def _denoised(self, work: PlannedVariant, claim: Claim) -> Any:
        """Walk the tail on a device; returns what is left to do, to be run on the writer's thread."""
        runtime, seconds = self.runtime, {}
        with runtime.lease(self.prior.recipe) as lease:
            seconds["load"] = lease.load_s
            started = time.perf_counter()
            walk = partial(self._walked, lease=lease, embeddings=embeddings_for([work.conditioning], lease, runtime))
            seconds["encode_text"] = time.perf_counter() - started
            made = self._guarded(work, walk)
            seconds["denoise"] = made.seconds
        return lambda: self._published(work, claim, lease, made, seconds)

    def _walked(self, work: PlannedVariant, start: int, *, lease: Lease, embeddings: Any) -> VariantResult:
        from prior_engine import Keep, ResumeOptions, RunOptions

        runtime, prior = self.runtime, self.prior
        options = RunOptions(
            keep=Keep(work.kept_steps),
            cache=cache_of(self.context.settings),
            cancel=runtime.stop.is_set,
            on_step=lambda step, steps: runtime.progress.step(work.row_id, work.label, step + 1, steps),
            embeddings=embeddings,
        )
        if work.way.is_full:
            return lease.engine.scratch(prior.identity, work.conditioning, prior.schedule, options=options)
        snapshot, pins = self._parents.snapshot(work, start)
        how = ResumeOptions(
            pins=pins,
            tail=work.way.tail,
            history=self.context.settings.history,
            line=start if work.way.start == "line" else None,
        )
        return lease.engine.resume(
            snapshot, prior.identity, work.conditioning, prior.schedule, how=how, options=options
        )

    def _guarded(self, work: PlannedVariant, walk: Callable[[PlannedVariant, int], VariantResult]) -> _Made:
        """Walk; where the guard is on, look at what came out, and once more from earlier where that was asked for."""
        guard = self.context.settings.guard
        result = walk(work, work.start_step)
        if not guard.enabled or work.way.is_full:
            return _Made(result=result, start=work.start_step, steps_run=result.steps_run, seconds=result.seconds)
        home = self._parents.home(work)
        seen = look(result.latents.latents, home, guard, started=work.start_step)
        made = _Made(
            result=result, start=work.start_step, steps_run=result.steps_run, seconds=result.seconds, look=seen
        )
        start = earlier(seen, guard)
        if start is None or (
            work.way.start == "snapshot" and step_file(start) not in self._parents.commit_of(work).files
        ):
            return made
        again = walk(work, start)
        return _Made(
            result=again,
            start=start,
            steps_run=made.steps_run + again.steps_run,
            seconds=made.seconds + again.seconds,
            look=look(again.latents.latents, home, guard, started=start),
        )

    def _finished(
        self, work: PlannedVariant, held: ExitStack, room: threading.BoundedSemaphore, finish: Any
    ) -> Result | None:
        try:
            with held:
                result: Result = finish()
                return result
        except Exception as error:  # noqa: BLE001  a failed row is data; the rows beside it go on
            return self._failed(work, error)
        finally:
            room.release()

    def _published(
        self, work: PlannedVariant, claim: Claim, lease: Lease, whole: _Made, seconds: dict[str, float]
    ) -> Result:
        made = whole.result
        with scratch_folder() as folder:
            files, phases = write_files(made.latents, lease, self.runtime, self.context, folder)
            started = time.perf_counter()
            for snapshot in made.kept:
                claim.put_tensors(step_file(snapshot.step), snapshot.tensors(), snapshot.metadata())
            claim.put_tensors("latents.safetensors", made.latents.tensors(), made.latents.metadata())
            for name, path in files.items():
                claim.put_file(name, path)
            seconds |= phases | {"write": time.perf_counter() - started}
            result = Result(
                id=work.row_id,
                kind="variant",
                key=work.key,
                identity=work.name,
                status="done",
                attempts=self.context.attempt,
                steps_run=whole.steps_run,
                seconds=seconds,
                doubt=whole.look.mark if whole.look else None,
            )
            row = manifest_row(
                work,
                self.context,
                result,
                device=lease.device,
                start=whole.start,
                sigma=made.sigma,
                look=whole.look,
            )
            commit = claim.publish(
                recipe=work.recipe,
                pins=made.latents.pins,
                timings=seconds,
                versions=versions(),
                row=row,
                defer_row=True,
            )
            self._rows.append(commit.row)
        # Another process may have taken the key over and been quicker.
        return result if commit.attempt == claim.attempt else replace(result, status="cached")
