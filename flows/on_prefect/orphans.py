"""Closes runs whose process is gone. After a power cut nobody else does, and a deployment runs one at a time."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from flows.on_prefect.processes import is_gone, this_process

log = logging.getLogger("headstart")
EVERY_S = 30.0
_LABEL = "headstart.process."
# A run says which process it is as the first thing it does. One that has not by then never came so far.
_SILENT = timedelta(minutes=10)


def own_labels() -> dict[str, Any]:
    """Labels of a flow run that name this process."""
    return {f"{_LABEL}{name}": value for name, value in this_process().items()}


def name_own_process() -> None:
    """Say which process this flow run is, before anything that may take long: planning may hash a large model first."""
    from prefect import get_client
    from prefect.runtime import flow_run

    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(UUID(str(flow_run.id)), own_labels())
    except Exception as error:  # noqa: BLE001  it is told once more when its work begins
        log.debug("the Prefect server was not told which process this is: %s", error)


async def close_orphans(deployment: UUID) -> int:
    """Mark the runs of a deployment as crashed whose process is gone; returns how many."""
    from prefect import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter, FlowRunFilterState
    from prefect.client.schemas.filters import FlowRunFilterStateType as StateTypes
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    open_states = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=StateTypes(any_=open_states))),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        )
        gone = [run for run in runs if _is_orphan(run)]
        for run in gone:
            log.warning("run %s was left behind by a process that is gone; it is closed", run.name)
            message = "its process is gone; what it had finished is kept"
            await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    return len(gone)


def _is_orphan(run: Any) -> bool:
    process = {
        name.removeprefix(_LABEL): value for name, value in (run.labels or {}).items() if name.startswith(_LABEL)
    }
    if process:
        return is_gone(process) is True
    return bool(datetime.now(UTC) - run.state.timestamp > _SILENT)
