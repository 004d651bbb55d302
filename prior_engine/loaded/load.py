"""Loads single components of a model folder, in the dtype and on the device that they need."""

import contextlib
import importlib
import inspect
import logging
from collections.abc import Iterator
from typing import Any

from prior_engine.errors import EngineError, ModelSourceError, RequestError
from prior_engine.loaded.memory import offload
from prior_engine.loaded.original import from_files
from prior_engine.models.info import EXPERTS, MAY_WAIT, TEXT_ENCODERS, ModelInfo
from prior_engine.models.spec import DEFAULT_ATTENTION, ModelSpec
from prior_engine.models.weights.quantized import quantize

_NOTICES = {
    "transformers.utils.import_utils": "requires torchvision (not installed); falling back",
    "torchao": "Failed to load",
    "torchao.kernel.intmm": "Detected no triton",
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
}


def load_component(name: str, spec: ModelSpec, info: ModelInfo, device: str) -> Any:
    """One component, weights from safetensors only."""
    import torch

    library, kind_name = info.components[name]
    with without_notices():
        kind: Any = getattr(importlib.import_module(library), kind_name, None)
    # What is looked up by name could be anything that the library itself imports.
    if not hasattr(kind, "from_pretrained") or not kind.__module__.startswith(f"{library}."):
        raise ModelSourceError(f"the component {name!r} needs {library}.{kind_name}, which is not installed")
    folder = info.layout.place(name)
    if not hasattr(kind, "parameters"):  # tokenizers and image processors
        if name in info.layout.configs:
            return kind(**info.layout.config(name))
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    dtype = torch.float32 if name == "vae" and info.family.vae_in_float32 else getattr(torch, info.dtype)
    files = info.layout.files(name)
    try:
        if files:
            model = from_files(kind, files, info.layout.config(name), dtype)
        else:
            model = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True)
    except OSError as problem:
        raise ModelSourceError(f"the component {name!r} cannot be read from its folder: {problem}") from None
    model.eval().requires_grad_(requires_grad=False)
    if name in EXPERTS:
        _prepare_expert(model, spec, dtype)
    if name in TEXT_ENCODERS and spec.text_quantization is not None:
        with without_notices():
            quantize(model, spec.text_quantization, dtype)
    if spec.offload == "group" and name in MAY_WAIT:
        offload(model, device, by_blocks=name in EXPERTS)
    else:
        model.to(device)
    return model


def _prepare_expert(model: Any, spec: ModelSpec, dtype: Any) -> None:
    if spec.quantization is not None:
        with without_notices():
            quantize(model, spec.quantization, dtype)
    try:
        with _own_attention_only():
            model.set_attention_backend(spec.attention_backend or DEFAULT_ATTENTION)
    except (ValueError, RuntimeError, ImportError) as problem:
        raise RequestError(f"attention_backend={spec.attention_backend!r} cannot be used here: {problem}") from None
    if spec.compiled:
        _compile(model, deterministic=spec.deterministic)


def _compile(model: Any, *, deterministic: bool) -> None:
    """Compile the blocks that repeat, for each size of video by itself: no size may change the bits of another."""
    from torch._dynamo import config as tracing
    from torch._inductor import config as kernels
    from torch._inductor import cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        raise RequestError("compiled needs a C++ compiler on this machine; install g++, or leave it out") from None
    # Past its limit torch would run plain blocks without a word.
    tracing.recompile_limit = tracing.accumulated_recompile_limit = 1024
    # Kernels are not chosen by how long they took.
    kernels.deterministic = deterministic
    try:
        model.compile_repeated_blocks(fullgraph=True, dynamic=False)
    except ValueError as problem:
        raise RequestError(f"compiled cannot be used with {type(model).__name__}: {problem}") from None


@contextlib.contextmanager
def _own_attention_only() -> Iterator[None]:
    """Pin a model's attention without touching the others: diffusers also changes what every unpinned model uses."""
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry as Registry

    chatty = logging.getLogger("diffusers.models.modeling_utils")
    active, level = Registry.get_active_backend()[0], chatty.level
    chatty.setLevel(logging.ERROR)  # it warns at every call that attention backends are experimental
    try:
        yield
    finally:
        chatty.setLevel(level)
        Registry.set_active_backend(active)


@contextlib.contextmanager
def without_notices() -> Iterator[None]:
    """Libraries tell at every start what they might do otherwise: take pictures by torchvision, load kernels that fit no card here."""

    def is_worth_telling(record: logging.LogRecord) -> bool:
        return not any(said in record.getMessage() for said in _NOTICES.values())

    chatty = [logging.getLogger(name) for name in _NOTICES]
    for logger in chatty:
        logger.addFilter(is_worth_telling)
    try:
        yield
    finally:
        for logger in chatty:
            logger.removeFilter(is_worth_telling)


def assemble(info: ModelInfo, parts: dict[str, Any]) -> Any:
    """The pipeline as diffusers wrote it, around whichever components are in memory."""
    import diffusers

    with without_notices():
        kind = getattr(diffusers, info.pipeline, None)
    if kind is None:
        raise EngineError(f"the installed diffusers has no {info.pipeline!r}; install the pinned version")
    wanted = inspect.signature(kind.__init__).parameters
    settings = {name: value for name, value in info.settings.items() if name in wanted}
    return kind(**{name: parts.get(name) for name in info.components if name in wanted}, **settings)
