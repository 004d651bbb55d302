"""Makes priors and variants: records a diffusion run step by step, starts others from any of its steps, exactly.

Importing this package imports neither torch nor diffusers; the names below are looked up when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_engine.engine import Engine
    from prior_engine.loaded.caches import Cache
    from prior_engine.loaded.embeddings import Conditions, Embedding
    from prior_engine.models.spec import ModelInfo, ModelSpec, inspect_model
    from prior_engine.requests.prompt_length import PromptLength
    from prior_engine.requests.request import Clip, Conditioning, Identity, Lora, Picture, embedding_recipe
    from prior_engine.requests.schedule import Schedule, Tail, check_start_step, count_steps
    from prior_engine.runs.resume import VariantResult
    from prior_engine.runs.snapshot import Snapshot
    from prior_engine.video import contact_sheet, write_preview, write_video

_WHERE = {
    "Cache": "loaded.caches",
    "Clip": "requests.request",
    "Conditioning": "requests.request",
    "Conditions": "loaded.embeddings",
    "Embedding": "loaded.embeddings",
    "Engine": "engine",
    "Identity": "requests.request",
    "Lora": "requests.request",
    "ModelInfo": "models.spec",
    "ModelSpec": "models.spec",
    "Picture": "requests.request",
    "PromptLength": "requests.prompt_length",
    "Schedule": "requests.schedule",
    "Snapshot": "runs.snapshot",
    "Tail": "requests.schedule",
    "VariantResult": "runs.resume",
    "check_start_step": "requests.schedule",
    "contact_sheet": "video",
    "count_steps": "requests.schedule",
    "embedding_recipe": "requests.request",
    "inspect_model": "models.spec",
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
