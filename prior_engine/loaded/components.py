"""What of a model is in memory, when it comes and when it goes."""

import logging
from typing import Any

from prior_engine.errors import RequestError
from prior_engine.loaded.encoders import Memo, remember_encoders
from prior_engine.loaded.load import assemble, load_component
from prior_engine.loaded.memory import tidy
from prior_engine.models.info import EXPERTS, TEXT_PARTS, ModelInfo
from prior_engine.models.spec import ModelSpec, resolve_device

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
            self._pipe.register_modules(**dict.fromkeys(part for part in TEXT_PARTS if part in self.info.components))
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
        self.need(*(part for part in TEXT_PARTS if part in self.info.components))

    def _load(self, name: str) -> Any:
        log.info("loading %s", name)
        return load_component(name, self.spec, self.info, self.device)
