"""What the tasks of a run share inside one process: the open store, the devices, the stop sign, the counts.

Nothing of it has to be handed over: a process that finds a task of a run and knows nothing of it opens the store itself,
and hears from there when the run is cancelled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.making.devices import DevicePool, Lease, pool_for
from tasks.making.progress import Progress
from tasks.run_state import heed
from tasks.settings import Settings

if TYPE_CHECKING:
    from prior_store import Store

log = logging.getLogger("headstart")


@dataclass
class Runtime:
    """One run in this process."""

    store: Store
    pool: DevicePool
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=Progress)
    # Frames of one VAE at a time: its decoder keeps state between frames.
    decoding: threading.Lock = field(default_factory=threading.Lock)

    def lease(self, recipe: Mapping[str, Any] | None = None) -> AbstractContextManager[Lease]:
        """A device whose model is the one that the recipe of a prior names."""
        return self.pool.lease(self.stop, recipe["model"] if recipe is not None else None)

    def say_once(self, text: str) -> Callable[[str, float], None]:
        """For claims: say once, and not at every look, that somebody else is at it and waited for."""
        named: list[str] = []

        def tell(holder: str, _waited: float) -> None:
            if holder not in named:
                named.append(holder)
                log.info("%s %s; waiting for it", text, holder)

        return tell


_RUNTIMES: dict[str, Runtime] = {}
_LOCK = threading.Lock()


def open_store(settings: Settings, *, create: bool = True) -> Store:
    """The store that the settings name."""
    from prior_store import Store

    return Store.open(
        settings.store.url,
        storage_options=settings.store.storage_options,
        create=create,
        verify_hashes=settings.store.verify_hashes,
        check_digests=settings.store.verify == "full",
    )


def register(context: Context, runtime: Runtime) -> None:
    """Make `runtime` the one that tasks of this run find in this process."""
    with _LOCK:
        _RUNTIMES[context.batch] = runtime


def forget(context: Context) -> None:
    """The run is over."""
    with _LOCK:
        _RUNTIMES.pop(context.batch, None)


def runtime_for(context: Context) -> Runtime:
    """The run's runtime; made on first use where the task landed in another process."""
    with _LOCK:
        if context.batch not in _RUNTIMES:
            runtime = Runtime(store=open_store(context.settings), pool=pool_for(context.settings))
            # For as long as this process lives: it may get more work of the run at any time.
            heed(runtime.store, context.batch, runtime.stop, over=threading.Event())
            _RUNTIMES[context.batch] = runtime
        return _RUNTIMES[context.batch]
