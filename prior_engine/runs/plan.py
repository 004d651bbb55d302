"""From a request to the walk that answers it: solver, grid, seeds, pins."""

from prior_engine.models.info import ModelInfo
from prior_engine.requests.asked import Asked
from prior_engine.requests.schedule import check_told, count_steps
from prior_engine.runs.noise import generator_for
from prior_engine.runs.pins import pins_of
from prior_engine.runs.snapshot import Snapshot
from prior_engine.runs.solvers.solver import build_scheduler, grid_of
from prior_engine.runs.walk import Walk


def planned(info: ModelInfo, asked: Asked, origin: Snapshot | None = None, *, restarts: bool = False) -> Walk:
    """The walk of a request from `origin`, or from noise; `restarts` walks a schedule of its own from there."""
    check_told(info, asked.told[0], asked.schedule)
    scheduler = build_scheduler(asked.schedule, info)
    return Walk(
        scheduler=scheduler,
        steps=count_steps(asked.schedule, info),
        grid=grid_of(asked.schedule, scheduler),
        origin=origin,
        restarts=restarts,
        generators=[generator_for(asked.identity.seed) for _ in asked.told],
        pins=pins_of(info, asked.identity, asked.schedule, scheduler),
        noise_layout=asked.schedule.noise_layout,
        told=tuple(one.describe() for one in asked.told),
        batch_size=len(asked.told),
    )
