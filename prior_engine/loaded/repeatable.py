"""The switches of torch that make bits come out the same every time, held for as long as a run lasts."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch


class _Repeatable:
    """torch's process-wide switches for bits that come out the same every time, held as long as any run lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._kept: tuple[bool, ...] = ()

    def hold(self) -> None:
        with self._lock:
            self._holders += 1
            if self._holders > 1:
                return
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            self._kept = self._switches()
            self._switch(True, False, True, False, False, False, False)

    def let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if not self._holders:
                self._switch(*self._kept)

    def _switches(self) -> tuple[bool, ...]:
        deterministic: Any = torch.utils.deterministic
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.allow_tf32,
            deterministic.fill_uninitialized_memory,
        )

    def _switch(self, *values: bool) -> None:
        deterministic: Any = torch.utils.deterministic
        torch.use_deterministic_algorithms(mode=values[0], warn_only=values[1])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = values[2], values[3]
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = values[4], values[5]
        deterministic.fill_uninitialized_memory = values[6]


_REPEATABLE = _Repeatable()


@contextlib.contextmanager
def repeatable(*, wanted: bool) -> Iterator[None]:
    """Bits that come out the same every time, for as long as the run lasts."""
    if not wanted:
        yield
        return
    _REPEATABLE.hold()
    try:
        yield
    finally:
        _REPEATABLE.let_go()
