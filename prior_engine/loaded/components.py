"""What of a model is in memory, when it comes and when it goes; and what to say when memory does not suffice."""

import contextlib
import gc
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import torch

from prior_engine.errors import OutOfDeviceMemoryError, RequestError
from prior_engine.loaded.encoders import Memo, remember_encoders
from prior_engine.loaded.load import EXPERTS, TEXT, assemble, load_component
from prior_engine.models.spec import ModelInfo, ModelSpec, resolve_device

log = logging.getLogger(__name__)

FREEABLE = ("text_encoder", "image_encoder", "vae_encoder", *EXPERTS)


class Components:
    """The parts of one model: each is loaded when first needed and stays warm until it is freed."""

    def __init__(self, spec: ModelSpec, info: ModelInfo) -> None:
        self.spec = spec
        self.info = info
        self.device = resolve_device(spec.device)
        self.memo = Memo()
        self._pipe: Any = None

    @property
    def pipe(self) -> Any:
        """The pipeline object; it is built around its VAE, from which it takes its sizes."""
        if self._pipe is None:
            parts = {"vae": self._load("vae")}
            self._pipe = assemble(self.info, parts)
            self._pipe.set_progress_bar_config(disable=True)
            remember_encoders(self._pipe, self.memo, self._need_encoder)
            if self.spec.vae_tiling:
                self._pipe.vae.enable_tiling()
        return self._pipe

    def need(self, *names: str) -> None:
        """Have these components in memory."""
        for name in names:
            if name in self.info.components and getattr(self.pipe, name, None) is None:
                self.pipe.register_modules(**{name: self._load(name)})

    def has(self, name: str) -> bool:
        """Whether the component is in memory now."""
        if self._pipe is None:
            return False
        if name == "vae_encoder":
            return getattr(self._pipe.vae, "encoder", None) is not None
        return getattr(self._pipe, name, None) is not None

    def free(self, name: str) -> None:
        """Drop a component and give its memory back."""
        if name not in FREEABLE:
            raise RequestError(f"the component {name!r} cannot be freed; choose one of {sorted(FREEABLE)}")
        if self._pipe is None:
            return
        if name == "vae_encoder":
            self._pipe.vae.encoder = None
        elif name == "text_encoder":
            self._pipe.register_modules(**dict.fromkeys(part for part in TEXT if part in self.info.components))
        elif name in self.info.components:
            self._pipe.register_modules(**{name: None})
        tidy()

    def _need_encoder(self, name: str) -> None:
        """Have the picture or video encoder in memory: only something new makes it necessary."""
        if name == "image":
            self.need("image_processor", "image_encoder")
        elif self.pipe.vae.encoder is None:
            self.pipe.vae.encoder = self._load("vae").encoder

    def need_expert(self) -> None:
        """Have any one expert in memory: the pipelines read their sizes and dtype from it."""
        if not any(self.has(name) for name in EXPERTS):
            self.need(next(name for name in EXPERTS if name in self.info.components))

    def need_text(self) -> None:
        self.need(*(part for part in TEXT if part in self.info.components))

    def _load(self, name: str) -> Any:
        log.info("loading %s", name)
        return load_component(name, self.spec, self.info, self.device)


def tidy() -> None:
    """Give unused memory back to the machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def explained_memory() -> Iterator[None]:
    """Turn an out-of-memory failure into a sentence, and leave the process usable."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        text = str(problem).partition("\n")[0]
    else:
        return
    # Outside the handler, so that the failed run's tensors are no longer held by the traceback.
    tidy()
    raise OutOfDeviceMemoryError(
        f"the accelerator ran out of memory ({text}); what helps most, in this order: "
        "batch_size=1, offload='group', quantization='float8_e4m3fn'"
    )


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
