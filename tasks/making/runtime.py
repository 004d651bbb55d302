"""What the tasks of a batch share inside one process: the open store, the devices, the stop sign, the counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.making.devices import DevicePool, pool_for
from tasks.making.progress import Progress
from tasks.planning.work import BatchContext

if TYPE_CHECKING:
    from prior_store import Store


@dataclass
class Runtime:
    """One batch in this process."""

    store: Store
    pool: DevicePool
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=Progress)
    # Frames of one VAE at a time: its decoder keeps state between frames.
    decoding: threading.Lock = field(default_factory=threading.Lock)


_RUNTIMES: dict[str, Runtime] = {}
_LOCK = threading.Lock()


def open_store(context_or_settings: BatchContext | object) -> Store:
    """The store that the settings name."""
    from prior_store import Store
    from tasks.settings import Settings

    settings = context_or_settings.settings if isinstance(context_or_settings, BatchContext) else context_or_settings
    assert isinstance(settings, Settings)
    return Store.open(
        settings.store.url, storage_options=settings.store.storage_options, verify_hashes=settings.store.verify_hashes
    )


def register(context: BatchContext, runtime: Runtime) -> None:
    """Make `runtime` the one that tasks of this batch find in this process."""
    with _LOCK:
        _RUNTIMES[context.batch] = runtime


def forget(context: BatchContext) -> None:
    """The batch is over."""
    with _LOCK:
        _RUNTIMES.pop(context.batch, None)


def runtime_for(context: BatchContext) -> Runtime:
    """The batch's runtime; made on first use where the task landed in another process."""
    with _LOCK:
        if context.batch not in _RUNTIMES:
            _RUNTIMES[context.batch] = Runtime(store=open_store(context), pool=pool_for(context.settings))
        return _RUNTIMES[context.batch]
