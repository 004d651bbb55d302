"""Makes priors and variants: records a diffusion run step by step, starts others from any of its steps, exactly.

Importing this package imports neither torch nor diffusers; the names below are looked up when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_engine.caches import Cache
    from prior_engine.conditioning import Conditions, Embedding
    from prior_engine.config import ModelInfo, ModelSpec, inspect_model
    from prior_engine.engine import Engine
    from prior_engine.prompt_length import PromptLength
    from prior_engine.request import Clip, Conditioning, Identity, Lora, Picture, embedding_recipe
    from prior_engine.resume import VariantResult
    from prior_engine.schedule import Schedule, Tail, check_start_step, count_steps
    from prior_engine.snapshot import Snapshot
    from prior_engine.video import contact_sheet, write_preview, write_video

_WHERE = {
    "Cache": "caches",
    "Clip": "request",
    "Conditioning": "request",
    "Conditions": "conditioning",
    "Embedding": "conditioning",
    "Engine": "engine",
    "Identity": "request",
    "Lora": "request",
    "ModelInfo": "config",
    "ModelSpec": "config",
    "Picture": "request",
    "PromptLength": "prompt_length",
    "Schedule": "schedule",
    "Snapshot": "snapshot",
    "Tail": "schedule",
    "VariantResult": "resume",
    "check_start_step": "schedule",
    "contact_sheet": "video",
    "count_steps": "schedule",
    "embedding_recipe": "request",
    "inspect_model": "config",
    "write_preview": "video",
    "write_video": "video",
}

__all__ = [
    "Cache",
    "Clip",
    "Conditioning",
    "Conditions",
    "Embedding",
    "Engine",
    "Identity",
    "Lora",
    "ModelInfo",
    "ModelSpec",
    "Picture",
    "PromptLength",
    "Schedule",
    "Snapshot",
    "Tail",
    "VariantResult",
    "check_start_step",
    "contact_sheet",
    "count_steps",
    "embedding_recipe",
    "inspect_model",
    "write_preview",
    "write_video",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
