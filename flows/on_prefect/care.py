"""The care of a store as Prefect sees it."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.graph.care import care_settings, run_care
from flows.on_prefect.door.bounds import allowed
from flows.on_prefect.orphans import name_own_process
from flows.on_prefect.shown import in_flow_run


@flow(name="maintain-store", flow_run_name="maintain {store}", persist_result=False)
def maintain_store(
    store: str = "headstart-store",
    quick: bool = False,  # noqa: FBT001, FBT002  a form field
    delete: bool = False,  # noqa: FBT001, FBT002
    overrides: list[str] | None = None,
) -> State[Any]:
    """Verify a store, merge its manifest files, collect what nothing names.

    Args:
        store: folder or URL of the store
        quick: compare sizes only, no digests
        delete: remove what no row names; otherwise only say what could go
        overrides: further settings, one key=value each
    """
    name_own_process()
    settings = care_settings(allowed([f"store={store}", *(overrides or [])]))
    with in_flow_run("steps of care") as shown:
        done = run_care(settings, shown.means(1), quick=quick, delete=delete)
    return Completed(message=done.summary) if done.report.ok else Failed(message=done.summary)
