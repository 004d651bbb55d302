"""Who does the work, and who shows it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.settings.group import Group


class RunnerSettings(Group):
    """Devices, workers, chunks."""

    devices: str | tuple[str, ...] = Field("auto", description="`auto`, or a list such as [cuda:0,cuda:1] or [cpu]")
    workers: int | None = Field(
        None, ge=1, description="threads; null = devices + 2, so that decoding overlaps with the next run"
    )
    chunk_size: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="variants in one task run; auto = at most about 500 task runs in a batch"
    )


class ServerSettings(Group):
    """The Prefect server."""

    mode: Literal["local", "remote", "none"] = Field(
        "local", description="local = started here if none is running; remote = PREFECT_API_URL; none = no UI"
    )
    port: int = Field(4200, gt=0, lt=65536, description="first port to try for the local server")
    database: str | None = Field(
        None, description="database URL of the local server; null = SQLite in the state folder"
    )
