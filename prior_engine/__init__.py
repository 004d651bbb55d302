"""Makes priors and variants: records a diffusion run step by step, starts others from any of its steps, exactly.

Importing this package imports neither torch nor diffusers; the names below are looked up when first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_engine.engine import Engine
    from prior_engine.models.info import ModelInfo, inspect_model
    from prior_engine.models.spec import ModelSpec
    from prior_engine.requests.cache import Cache
    from prior_engine.requests.conditioning import Conditioning, Lora, embedding_recipe
    from prior_engine.requests.embeddings import Conditions, Embedding
    from prior_engine.requests.identity import Identity
    from prior_engine.requests.options import ResumeOptions, RunOptions
    from prior_engine.requests.pictures import Clip, Picture
    from prior_engine.requests.prompt_length import PromptLength
    from prior_engine.requests.schedule import Schedule, count_steps
    from prior_engine.requests.steps import Keep, Tail, check_start_step
    from prior_engine.runs.result import VariantResult
    from prior_engine.runs.snapshot import Snapshot
    from prior_engine.video import write_preview, write_video

_WHERE = {
    "Cache": "requests.cache",
    "Clip": "requests.pictures",
    "Conditioning": "requests.conditioning",
    "Conditions": "requests.embeddings",
    "Embedding": "requests.embeddings",
    "Engine": "engine",
    "Identity": "requests.identity",
    "Keep": "requests.steps",
    "Lora": "requests.conditioning",
    "ModelInfo": "models.info",
    "ModelSpec": "models.spec",
    "Picture": "requests.pictures",
    "PromptLength": "requests.prompt_length",
    "ResumeOptions": "requests.options",
    "RunOptions": "requests.options",
    "Schedule": "requests.schedule",
    "Snapshot": "runs.snapshot",
    "Tail": "requests.steps",
    "VariantResult": "runs.result",
    "check_start_step": "requests.steps",
    "count_steps": "requests.schedule",
    "embedding_recipe": "requests.conditioning",
    "inspect_model": "models.info",
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
    "Keep",
    "Lora",
    "ModelInfo",
    "ModelSpec",
    "Picture",
    "PromptLength",
    "ResumeOptions",
    "RunOptions",
    "Schedule",
    "Snapshot",
    "Tail",
    "VariantResult",
    "check_start_step",
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
