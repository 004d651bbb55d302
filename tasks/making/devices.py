"""Devices and the models on them: loaded once a process, kept warm, never walked by two at once.

A lease is exclusive twice over: among the threads of this process by a condition, among processes on this machine by an
OS lock on a file per device, which the system lets go of when a process dies. CPU counts as one device.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_engine.models.spec import ModelSpec, resolve_device, resolve_dtype
from tasks.errors import InterruptedBatchError
from tasks.planning.model_source import model_folder
from tasks.planning.recipes import model_spec
from tasks.settings import Settings, state_dir

if TYPE_CHECKING:
    from prior_engine import Engine

_POLL_S = 0.05


def devices_of(settings: Settings) -> tuple[str, ...]:
    """The devices that this batch may use on this machine."""
    named = settings.runner.devices
    if named != "auto":
        return (named,) if isinstance(named, str) else tuple(named)
    best = resolve_device("auto")
    if best != "cuda":
        return (best,)
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def spec_for(settings: Settings, device: str | None = None) -> ModelSpec:
    """The model as it runs here. One dtype on all devices: it is in every key, and a key names one result."""
    first = devices_of(settings)[0]
    spec = model_spec(settings, model_folder(settings.model), device or first)
    return replace(spec, dtype=resolve_dtype(spec.dtype, first))


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
    def lease(self, stop: threading.Event) -> Iterator[Lease]:
        """Wait for a device; leaves at once when the batch is told to stop."""
        device = self._take(stop)
        try:
            with _machine_lock(device, stop):
                engine = self._engine(device)
                # Loading is told once, with the row that had to wait for it.
                yield Lease(device, engine, self.load_seconds.pop(device, 0.0))
        finally:
            with self._changed:
                self._free.append(device)
                self._changed.notify()

    def any_engine(self) -> Any:
        """An engine for work that needs no lease (decoding), loaded if there is none yet."""
        for device in self.devices:
            if device in self.engines:
                return self.engines[device]
        return self._engine(self.devices[0])

    def _take(self, stop: threading.Event) -> str:
        with self._changed:
            while not self._free:
                if stop.is_set():
                    raise InterruptedBatchError("the batch was told to stop")
                self._changed.wait(timeout=0.2)
            return self._free.pop(0)

    def _engine(self, device: str) -> Any:
        # Called under the device's own lease, so no two threads load the same one.
        if device not in self.engines:
            started = time.monotonic()
            self.engines[device] = self.make_engine(self.settings, device)
            self.load_seconds[device] = time.monotonic() - started
        return self.engines[device]


@contextlib.contextmanager
def _machine_lock(device: str, stop: threading.Event) -> Iterator[None]:
    folder = Path(state_dir()) / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{_lock_name(device)}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop.is_set():
                    raise InterruptedBatchError("the batch was told to stop") from None
                time.sleep(_POLL_S)
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
