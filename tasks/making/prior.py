"""One prior: claimed, recorded step by step, decoded, published. Made once, whoever else wants it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.devices import Lease
from tasks.making.encode import embeddings_for
from tasks.making.ended import failed, list_rows, manifest_row
from tasks.making.runtime import Runtime, runtime_for
from tasks.making.scratch import scratch_folder
from tasks.making.video import write_files
from tasks.planning.planned import PlannedPrior
from tasks.result import Result

if TYPE_CHECKING:
    from prior_engine import Snapshot
    from prior_store import Claim

log = logging.getLogger("headstart")


def make_prior(works: tuple[PlannedPrior, ...], context: Context) -> list[Result]:
    """Have each prior in the store; one that cannot be made is a result that says why."""
    return [_ended(work, context) for work in works]


def _ended(work: PlannedPrior, context: Context) -> Result:
    from prior_engine.errors import RunCancelledError
    from prior_store.errors import ClaimCancelledError

    runtime = runtime_for(context)
    if runtime.stop.is_set():
        raise InterruptedBatchError("the batch was asked to stop")
    try:
        return _made(work, context, runtime)
    except (RunCancelledError, ClaimCancelledError, InterruptedBatchError) as stopped:
        raise InterruptedBatchError(
            f"prior {work.name!r} was stopped at a step boundary; a new run continues from there"
        ) from stopped
    except Exception as error:
        log.exception("prior %s failed", work.name, exc_info=log.isEnabledFor(logging.DEBUG))
        result = failed(work, error, context)
        list_rows(runtime.store, [manifest_row(work, context, result)])
        return result


def _made(work: PlannedPrior, context: Context, runtime: Runtime) -> Result:
    settings = context.settings
    with runtime.store.claim(
        "priors",
        work.key,
        ttl_s=settings.prior.lease_s,
        wait_s=settings.prior.wait_s,
        on_wait=runtime.say_once(f"prior {work.name} is being made by"),
        cancel=runtime.stop.is_set,
    ) as claim:
        if claim.commit is not None:
            # The plan did not know it: its maker died, or was not through, between commit and row. List it (again).
            list_rows(runtime.store, [claim.commit.row])
            return Result(id=work.key, kind="prior", key=work.key, identity=work.name, status="cached")
        return _recorded(work, context, runtime, claim)


def _recorded(work: PlannedPrior, context: Context, runtime: Runtime, claim: Claim) -> Result:
    seconds: dict[str, float] = {}
    with runtime.lease(work.recipe) as lease:
        seconds["load"] = lease.load_s
        started = time.perf_counter()
        embeddings = embeddings_for([work.conditioning], lease, runtime)
        seconds["encode_text"] = time.perf_counter() - started
        latents, steps_run, seconds["denoise"] = _walked(work, context, runtime, claim, lease, embeddings)
        pins = lease.engine.pins(work.identity, work.conditioning, work.schedule)
    with scratch_folder() as folder:
        files, phases = write_files(latents, lease, runtime, context, folder)
        started = time.perf_counter()
        for name, path in files.items():
            claim.put_file(name, path)
        seconds |= phases | {"write": time.perf_counter() - started}
        result = Result(
            id=work.key,
            kind="prior",
            key=work.key,
            identity=work.name,
            status="done",
            steps_run=steps_run,
            seconds=seconds,
            attempts=context.attempt,
        )
        commit = claim.publish(
            recipe=work.recipe,
            pins=pins,
            timings=seconds,
            versions=versions(),
            row=manifest_row(work, context, result, device=lease.device),
            defer_row=True,
        )
        list_rows(runtime.store, [commit.row])
    return result if commit.attempt == claim.attempt else replace(result, status="cached")


def _walked(
    work: PlannedPrior, context: Context, runtime: Runtime, claim: Claim, lease: Lease, embeddings: Any
) -> tuple[Snapshot, int, float]:
    """Record, saving step n while step n+1 runs; goes on from what a broken attempt left whole."""
    from prior_engine import Keep, RunOptions, count_steps

    label = f"prior {work.name}"
    after = _continuation(claim, runtime)
    if after is not None:
        log.info("%s continues after step %d of an interrupted attempt", label, after.step)
        if after.is_final:
            return after, 0, 0.0
    started = time.perf_counter()
    last: Snapshot | None = None
    steps_run = 0
    total = count_steps(work.schedule, lease.engine.info)
    # The last snapshot holds the latents that are decoded, and rows of this batch start from others.
    kept = Keep(context.settings.prior.keep).steps(total) | {total - 1, *work.needed_steps}
    options = RunOptions(
        keep=Keep(sorted(kept)),
        cancel=runtime.stop.is_set,
        on_step=lambda step, steps: runtime.progress.step(work.key, label, step + 1, steps),
        embeddings=embeddings,
    )
    for snapshot in lease.engine.record(work.identity, work.conditioning, work.schedule, after=after, options=options):
        claim.put_tensors(step_file(snapshot.step), snapshot.tensors(), snapshot.metadata())
        last, steps_run = snapshot, total - 1 - (after.step if after else -1)
    assert last is not None
    return last, steps_run, time.perf_counter() - started


def _continuation(claim: Claim, runtime: Runtime) -> Snapshot | None:
    """The latest whole snapshot of an abandoned attempt, taken into this one with those before it."""
    from prior_engine import Snapshot
    from prior_store.objects import tensors

    leftover = claim.leftover()
    if not leftover:
        return None
    claim.adopt(leftover)
    latest = leftover[max(leftover)].path
    return Snapshot.from_parts(*tensors.decode(runtime.store.files.read(latest), latest))


def step_file(step: int) -> str:
    """The name of a step's snapshot in the store."""
    return f"step_{step:04d}.safetensors"


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """What was at work, for the record; never part of a key."""
    from importlib.metadata import version

    packages = ("headstart-video", "torch", "diffusers", "transformers", "safetensors", "prefect")
    return {package: version(package) for package in packages}
