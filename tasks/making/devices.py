"""Devices and the models on them: loaded once a process, kept warm, never walked by two at once.

A lease is exclusive twice over: among the threads of this process by a condition, among processes on this machine by an
OS lock on a file per device, which the system lets go of when a process dies. CPU counts as one device.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import InterruptedBatchError, PlanError
from tasks.planning.models.source import devices_of, spec_for
from tasks.settings import Settings, state_dir

if TYPE_CHECKING:
    from prior_engine import Engine

_POLL_S = 0.05
# A device that another process has for longer than this is waited for with a word.
_PATIENCE_S = 3.0
log = logging.getLogger("headstart")


def workers_of(settings: Settings) -> int:
    """Threads: one a device, and two more so that decoding and writing overlap the next walk."""
    return settings.runner.workers or len(devices_of(settings)) + 2


@dataclass(slots=True)
class Lease:
    """One device and its engine, ours until the block ends."""

    device: str
    engine: Engine
    load_s: float


@dataclass
class DevicePool:
    """The devices of this process, with one warm engine each."""

    settings: Settings
    devices: tuple[str, ...]
    make_engine: Callable[[Settings, str], Any]
    engines: dict[str, Any] = field(default_factory=dict)
    load_seconds: dict[str, float] = field(default_factory=dict)
    _free: list[str] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self._free = list(self.devices)

    @contextlib.contextmanager
    def lease(self, stop: threading.Event, model: Mapping[str, Any] | None = None) -> Iterator[Lease]:
        """Wait for a device whose engine is the `model` of a recipe; leaves at once when the run is told to stop."""
        device = self._take(stop)
        try:
            with _machine_lock(device, stop):
                engine = self._engine(device)
                if model is not None:
                    _check_model(model, engine.info.describe(), device)
                # Loading is told once, with the row that had to wait for it.
                yield Lease(device, engine, self.load_seconds.pop(device, 0.0))
        finally:
            with self._changed:
                self._free.append(device)
                self._changed.notify()

    def _take(self, stop: threading.Event) -> str:
        with self._changed:
            while not self._free:
                if stop.is_set():
                    raise InterruptedBatchError("the batch was asked to stop")
                self._changed.wait(timeout=0.2)
            return self._free.pop(0)

    def _engine(self, device: str) -> Any:
        # Called under the device's own lease, so no two threads load the same one.
        if device not in self.engines:
            started = time.monotonic()
            self.engines[device] = self.make_engine(self.settings, device)
            self.load_seconds[device] = time.monotonic() - started
        return self.engines[device]


def _check_model(planned: Mapping[str, Any], here: Mapping[str, Any], device: str) -> None:
    """A key names one result: what is loaded here has to be what the plan wrote into the recipe."""
    differing = [name for name in planned if planned[name] != here.get(name)]
    if differing:
        differences = "; ".join(
            f"{name} is {here.get(name)!r} here and {planned[name]!r} in the recipe" for name in differing
        )
        raise PlanError(
            f"the model on {device} is not the one that was planned: {differences}; plan on a machine like this one, or set "
            "what differs (model.dtype=..., accel.attention_backend=...) so that all machines agree"
        )


@contextlib.contextmanager
def _machine_lock(device: str, stop: threading.Event) -> Iterator[None]:
    folder = Path(state_dir()) / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{_lock_name(device)}.lock").open("a+") as file:
        waiting_since: float | None = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.is_set():
                    raise InterruptedBatchError("the batch was asked to stop") from None
                if waiting_since is not None and time.monotonic() - waiting_since > _PATIENCE_S:
                    waiting_since = None
                    file.seek(0)
                    log.info("waiting for %s, in use by %s", device, file.read().strip() or "another process")
                time.sleep(_POLL_S)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} of this machine")
        file.flush()
        yield


def _lock_name(device: str) -> str:
    """One name for one piece of hardware, however the process counts its devices."""
    if device.startswith("cuda"):
        import torch

        return f"cuda-{torch.cuda.get_device_properties(device).uuid}"
    return device.replace(":", "-").replace(os.sep, "-")


def _engine_for(settings: Settings, device: str) -> Any:
    from prior_engine import Engine

    return Engine(spec_for(settings, device))


_POOLS: dict[str, DevicePool] = {}
_POOLS_LOCK = threading.Lock()


def pool_for(settings: Settings, make_engine: Callable[[Settings, str], Any] = _engine_for) -> DevicePool:
    """The pool of this process for these settings; models stay loaded from batch to batch."""
    devices = devices_of(settings)
    name = repr((settings.model, settings.accel, devices, make_engine))
    with _POOLS_LOCK:
        if name not in _POOLS:
            _POOLS[name] = DevicePool(settings=settings, devices=devices, make_engine=make_engine)
        return _POOLS[name]


def clear_pools(keep: Sequence[str] = ()) -> None:
    """Let go of all warm models (tests, long-lived processes)."""
    with _POOLS_LOCK:
        for name in [name for name in _POOLS if name not in keep]:
            del _POOLS[name]
