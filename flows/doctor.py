"""Says what is wrong with this machine before a batch finds out: one line a part, and what to do about it."""

from __future__ import annotations

import base64
import json
import os
import platform
import secrets
import shutil
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.compose import compose_settings
from flows.on_prefect.server import healthy, log_file, own_secret, running
from prior_store.layout import QUARANTINE
from tasks.secrets import mask, masked
from tasks.settings import Settings, state_dir

if TYPE_CHECKING:
    from prior_store import Store

Status = Literal["ok", "warn", "fail"]
_LITTLE_ROOM, _NO_ROOM = 10 * 2**30, 2**30
# A claim may be taken over after a minute without a sign of life, by the clock of whoever looks.
_SKEW_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, how it is, and what to do when it is not well."""

    part: str
    status: Status
    seen: str
    do: str = ""

    def line(self) -> str:
        """For people."""
        return f"{self.status:5} {self.part:8} {self.seen}" + (f"\n{'':15}-> {self.do}" if self.do else "")


def examine(overrides: Sequence[str]) -> list[Finding]:
    """Look at every part; a part that breaks the look itself is a finding like any other."""
    settings = compose_settings(overrides)
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("device", _device),
        ("disk", _disk),
        ("ffmpeg", _ffmpeg),
        ("model", _model),
        ("store", _store),
        ("server", _server),
    )
    found: list[Finding] = []
    for part, check in checks:
        try:
            found += check(settings)
        except Exception as error:  # noqa: BLE001  whatever is broken is what this is for
            found.append(Finding(part=part, status="fail", seen=f"{type(error).__name__}: {error}"))
    return found


def as_text(findings: Sequence[Finding], *, as_json: bool) -> str:
    """All lines and a verdict."""
    if as_json:
        return json.dumps(masked([asdict(finding) for finding in findings]), indent=1) + "\n"
    worst = sum(finding.status == "fail" for finding in findings)
    doubts = sum(finding.status == "warn" for finding in findings)
    verdict = f"{worst} to fix, {doubts} to know about" if worst or doubts else "all is well"
    return mask("\n".join([*(finding.line() for finding in findings), verdict]) + "\n")


def _python(_: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    right = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding(
        part="python",
        status="ok" if right else "warn",
        seen=f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        do="" if right else "3.11 and 3.12 are tested; create the environment with one of them",
    )


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    from tasks.planning.models.source import devices_of

    for device in devices_of(settings):
        if device.startswith("cuda"):
            free, total = torch.cuda.mem_get_info(device)
            name = torch.cuda.get_device_name(device)
            seen = f"{device}: {name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free, torch {torch.__version__}"
            tight = free < total / 2
            yield Finding(
                part="device",
                status="warn" if tight else "ok",
                seen=seen,
                do="another process holds more than half of its memory; nvidia-smi shows which" if tight else "",
            )
        else:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
            yield Finding(
                part="device",
                status="ok" if settings.model.source == "demo" else "warn",
                seen=f"{device}: {memory:.1f} GiB of memory, torch {torch.__version__}",
                do="" if settings.model.source == "demo" else "fine for tiny models; a large one needs a CUDA device",
            )


def _disk(settings: Settings) -> Iterator[Finding]:
    places = {"state": Path(state_dir())}
    if "://" not in settings.store.url or settings.store.url.startswith("file://"):
        places["store"] = Path(settings.store.url.removeprefix("file://"))
    for name, place in places.items():
        there = place.resolve()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        yield Finding(
            part="disk",
            status="ok" if free >= _LITTLE_ROOM else "warn" if free >= _NO_ROOM else "fail",
            seen=f"{free / 2**30:.1f} GiB free for the {name} at {place}",
            do=""
            if free >= _LITTLE_ROOM
            else "free some space (headstart store gc), or keep fewer steps (prior.keep=from:6)",
        )


def _ffmpeg(_: Settings) -> Iterator[Finding]:
    from prior_engine.errors import VideoError
    from prior_engine.video import WHAT_TO_DO, usable_ffmpeg

    try:
        yield Finding(part="ffmpeg", status="ok", seen=f"{usable_ffmpeg()}, writes H.264")
    except VideoError as error:
        yield Finding(part="ffmpeg", status="fail", seen=str(error).removesuffix(f"; {WHAT_TO_DO}"), do=WHAT_TO_DO)


def _model(settings: Settings) -> Iterator[Finding]:
    from tasks.errors import PlanError
    from tasks.planning.models.check import broken_files
    from tasks.planning.models.source import model_folder

    try:
        broken, seen = broken_files(settings, model_folder(settings.model))
    except (PlanError, OSError, ValueError) as error:
        yield Finding(
            part="model", status="fail", seen=str(error), do="name another one: model=FOLDER, or repair that one"
        )
        return
    for file, reason in broken:
        yield Finding(part="model", status="fail", seen=f"{file}: {reason}", do="copy or download this file again")
    if not broken:
        yield Finding(part="model", status="ok", seen=seen)


def _store(settings: Settings) -> Iterator[Finding]:
    from prior_store.errors import NotAStoreError, StoreError

    url = settings.store.url
    try:
        try:
            yield from _opened(settings, url, create=False)
        except NotAStoreError as error:
            if "there is no store" not in str(error):
                raise
            yield from _would_be(settings, url)
    except StoreError as error:
        yield Finding(
            part="store", status="fail", seen=str(error), do="name another one: store=FOLDER or store=s3://..."
        )


def _would_be(settings: Settings, url: str) -> Iterator[Finding]:
    """Nothing is there yet: try what the place can do in a corner of it, and leave nothing behind."""
    corner = f"{url.rstrip('/')}/probe-{secrets.token_hex(8)}"
    there_before = "://" in url or Path(url).exists()
    try:
        for finding in _opened(settings, corner, create=True):
            yield Finding(
                part=finding.part,
                status=finding.status,
                seen=finding.seen.replace(corner, url)
                + ("; the first run creates it" if finding.part == "store" else ""),
                do=finding.do,
            )
    finally:
        _clear(settings, corner)
        if not there_before:
            shutil.rmtree(url, ignore_errors=True)


def _clear(settings: Settings, corner: str) -> None:
    from prior_store.backends.address import open_files

    if "://" in corner:
        files = open_files(corner, settings.store.storage_options)
        files.remove_many(list(files.find("")))
    else:
        shutil.rmtree(corner, ignore_errors=True)


def _opened(settings: Settings, url: str, *, create: bool) -> Iterator[Finding]:
    from prior_store import Store

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        store = Store.open(url, storage_options=settings.store.storage_options, create=create)
        mode = store.capabilities.mode
    if not store.capabilities.writable:
        yield Finding(
            part="store", status="fail", seen=f"{store.url} can be read but not written", do="get write access"
        )
        return
    alone = not store.capabilities.exclusive_create
    yield Finding(
        part="store",
        status="warn" if alone else "ok",
        seen=str(said[0].message) if alone and said else f"{store.url}, {mode}",
        do="let only one process write at a time, or use a backend with conditional writes" if alone else "",
    )
    yield from _clock(store)


def _clock(store: Store) -> Iterator[Finding]:
    """The store's clock beside ours: claims are handed over by age."""
    # In a room that is all but empty, since a listing is the only thing that tells when a file was written.
    name = f"{QUARANTINE}/probe-{secrets.token_hex(8)}.json"
    try:
        store.files.put(name, b"{}")
        written = next((entry.modified for path, entry in store.files.find(QUARANTINE).items() if path == name), None)
    finally:
        store.files.remove(name)
    if written is None:
        return
    skew = abs(time.time() - written)
    yield Finding(
        part="clock",
        status="ok" if skew < _SKEW_S else "warn",
        seen=f"{skew:.0f} s between this machine and the store",
        do="" if skew < _SKEW_S else "set the clock (NTP): claims on priors are handed over by age",
    )


def _server(settings: Settings) -> Iterator[Finding]:
    named = os.environ.get("PREFECT_API_URL")
    if settings.server.mode == "none":
        yield Finding(part="server", status="ok", seen="not used (server=none)")
    elif named or settings.server.mode == "remote":
        yield _remote(named)
    else:
        yield _local()


def _remote(address: str | None) -> Finding:
    if not address:
        do = "export PREFECT_API_URL=http://server:4200/api, or use server=local"
        return Finding(part="server", status="fail", seen="server=remote, and PREFECT_API_URL is not set", do=do)
    if not healthy(address, timeout_s=10):
        do = "start that server, correct the address, or unset it to use a local one"
        return Finding(
            part="server", status="fail", seen=f"no Prefect server answers at PREFECT_API_URL={address}", do=do
        )
    return _versions(address)


def _local() -> Finding:
    server = running()
    if server is None:
        return Finding(part="server", status="ok", seen="not running; the first run starts it")
    if not healthy(server.api_url):
        do = f"headstart ui stop, then headstart ui start; its log is {log_file()}"
        return Finding(part="server", status="fail", seen=f"process {server.pid} runs but does not answer", do=do)
    return _versions(server.api_url)


def _versions(address: str) -> Finding:
    from importlib.metadata import version

    secret = os.environ.get("PREFECT_API_AUTH_STRING") or own_secret(address)
    let_in = {"Authorization": f"Basic {base64.b64encode(secret.encode()).decode()}"} if secret else {}
    request = urllib.request.Request(f"{address.rstrip('/')}/admin/version", headers=let_in)  # noqa: S310  the user's own address
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310
        theirs = json.load(reply)
    ours = version("prefect")
    same = str(theirs).split(".")[:2] == ours.split(".")[:2]
    return Finding(
        part="server",
        status="ok" if same else "warn",
        seen=f"{address} answers, Prefect {theirs}" + ("" if same else f", here {ours}"),
        do="" if same else "use the same Prefect on both sides",
    )
