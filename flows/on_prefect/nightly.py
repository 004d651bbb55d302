"""Serves a deployment that renders a sheet on a schedule; two runs of it never overlap."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.compose import GROUPS, choices, compose_settings
from flows.on_prefect.door.bounds import Bounds, configure
from flows.on_prefect.orphans import EVERY_S, close_orphans
from prior_engine.models.hub import names_files
from tasks.errors import SettingsError
from tasks.secrets import masked_setting

log = logging.getLogger("headstart")
# Settings that may name a place on this machine; a model may as well be a hub id, so it has to exist to be one.
_PLACES = {"sheet", "sheet.path", "sheet.identities", "store", "store.url"}
_MODELS = {"model", "model.source"}
_ENDINGS = (signal.SIGINT, signal.SIGTERM)


def deployment_of(
    overrides: Sequence[str], *, name: str, cron: str | None, timezone: str, every_s: float | None
) -> Any:
    """The deployment that `serve_nightly` serves."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron, Interval
    from prefect.types.entrypoint import EntrypointType

    from flows.on_prefect.flows import render_sheet
    from flows.prepare import prepare

    # A sheet or setting that is wrong is told now, not at half past two in the night.
    prepared = prepare(overrides)
    if every_s is not None:
        schedule: Any = Interval(timedelta(seconds=every_s))
    else:
        schedule = Cron(_checked_cron(cron or ""), timezone=_checked_timezone(timezone))
    settled = settled_overrides(overrides)
    secret = [line.partition("=")[0] for line in overrides if masked_setting(line) != line]
    if secret:
        raise SettingsError(
            f"{', '.join(secret)} holds a secret, which a schedule would keep in Prefect's database; set it in the "
            "environment of this process instead (HEADSTART_DATABASE, AWS_* variables)"
        )
    return render_sheet.to_deployment(
        name=name,
        schedule=schedule,
        # By module, not by file: a run starts in another folder, and an installed Headstart lies in site-packages.
        entrypoint_type=EntrypointType.MODULE_PATH,
        parameters={"sheet": _absolute(prepared.settings.sheet.path or "demo"), "overrides": settled},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        tags=["headstart", *prepared.settings.tags],
        description=f"Renders {prepared.settings.sheet.path} into {prepared.store.url}; does only what is missing.",
    )


def serve_nightly(
    overrides: Sequence[str],
    *,
    name: str,
    cron: str | None,
    timezone: str,
    every_s: float | None,
    roots: Sequence[str] = (),
) -> None:
    """Serve until interrupted or told to end. Each run is a process of its own; `roots` bound what its form may name."""
    deployment = deployment_of(overrides, name=name, cron=cron, timezone=timezone, every_s=every_s)
    parameters = deployment.parameters
    configure(bounds_of(parameters["sheet"], parameters["overrides"], roots))
    asyncio.run(_serve(deployment))


def bounds_of(sheet: str, settled: Sequence[str], roots: Sequence[str]) -> Bounds:
    """What is served may be said again; other sheets and stores lie beside it, or below a root."""
    places = [value for key, _, value in (line.partition("=") for line in settled) if key in {"store", "store.url"}]
    beside = [] if sheet == "demo" else [sheet.rpartition("/")[0]]
    return Bounds(
        roots=tuple(dict.fromkeys([*beside, *places, *(_settled("model", root) for root in roots)])),
        lines=frozenset([f"sheet={sheet}", *settled]),
    )


async def announcement(deployment: Any) -> str:
    """What is served, when it runs next, and where to look."""
    from prefect.server.schemas.schedules import CronSchedule, IntervalSchedule

    parameters = deployment.parameters
    (given,) = [chosen.schedule for chosen in deployment.schedules]
    # Only the server's own classes know when a schedule is due.
    kinds: dict[str, Any] = {"CronSchedule": CronSchedule, "IntervalSchedule": IntervalSchedule}
    schedule = kinds[type(given).__name__].model_validate(given.model_dump())
    due = (await schedule.get_dates(1))[0]
    lines = [
        f"Serving {deployment.name!r}: {parameters['sheet']}",
        f"Next run: {due:%Y-%m-%d %H:%M:%S %Z}",
        *([f"UI:       {ui}"] if (ui := os.environ.get("PREFECT_UI_URL")) else []),
        "Ctrl-C ends it; a current run then stops at its next step and keeps what it has finished.",
    ]
    return "\n".join(lines) + "\n"


async def _serve(deployment: Any) -> None:
    from prefect.runner import Runner

    runner = Runner(limit=1)
    served = await runner.aadd_deployment(deployment)
    sys.stderr.write(await announcement(deployment))
    closing = asyncio.create_task(_closing_orphans(served))
    serving = asyncio.create_task(runner.start())
    await asyncio.sleep(0)  # it installs its own handler first
    loop, ending = asyncio.get_running_loop(), []

    def end() -> None:
        # Prefect's handler leaves at once: its run is killed in mid-write and stays Running in the UI for ever. So the run
        # is cancelled first, which keeps what it has finished; a second signal ends everything the hard way.
        for number in _ENDINGS:
            loop.remove_signal_handler(number)
        ending.append(asyncio.ensure_future(runner.astop()))

    for number in _ENDINGS:
        loop.add_signal_handler(number, end)
    await serving
    closing.cancel()
    await asyncio.gather(*ending)


async def _closing_orphans(deployment: UUID) -> None:
    """At the start, after a power cut; and later, since a run may end while the server is away and cannot hear of it."""
    while True:
        try:
            await close_orphans(deployment)
        except Exception as error:  # noqa: BLE001  the next look may find the server again
            log.debug("runs that were left behind could not be looked for: %s", error)
        await asyncio.sleep(EVERY_S)


def settled_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides with absolute paths: a scheduled run starts in another folder."""
    settled = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if key not in {"sheet", "sheet.path"}:
            settled.append(f"{key}{equals}{_settled(key, value)}")
    if not any(text.startswith(("store=", "store.url=")) for text in settled):
        settled.append(f"store.url={_absolute('headstart-store')}")
    return settled


def _settled(key: str, value: str) -> str:
    if key == "model.loras":
        return _settled_loras(value)
    if key in GROUPS and value in choices(key):
        return value
    if key.startswith("model.parts.") and value[:1] != "[":
        return _absolute(value)
    if key in _PLACES or (key in _MODELS and Path(value).exists()):
        return _absolute(value)
    return value


def _settled_loras(value: str) -> str:
    named = compose_settings([f"model.loras={value}"]).model.loras
    # In Hydra's words, whose names stand without quotes.
    told = (f"{{path:{json.dumps(_absolute(lora.path))},weight:{lora.weight},expert:{lora.expert}}}" for lora in named)
    return f"[{','.join(told)}]"


def _absolute(value: str) -> str:
    elsewhere = "://" in value or (names_files(value) and not Path(value).exists())
    return value if elsewhere or value in {"demo", "-"} else str(Path(value).resolve())


def _checked_cron(cron: str) -> str:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError:
        raise SettingsError(f"--cron {cron!r} is not a cron line; it needs five fields, e.g. '30 2 * * *'") from None
    return cron


def _checked_timezone(timezone: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise SettingsError(f"--timezone {timezone!r} is not known; give one such as Europe/Berlin or UTC") from None
    return timezone
