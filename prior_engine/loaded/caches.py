"""Step caches on resumed runs, only when asked for: set before a run, gone after it, also when it breaks."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.requests.cache import Cache

# diffusers' own patterns are matched in full against names like "blocks.0.attn1", and match nothing.
_ATTENTION = [r"(?:single_)?(?:transformer_)?blocks\.\d+\.attn[12]?"]


@contextlib.contextmanager
def applied(
    cache: Cache | None, pipe: Any, experts: Mapping[str, Any], *, spans: Mapping[str, range]
) -> Iterator[None]:
    """Have `cache` on every expert for one run; `spans` are the steps of the full schedule that each will see."""
    if cache is None:
        yield
        return
    enabled = []
    try:
        for name, model in experts.items():
            model._reset_stateful_cache()  # noqa: SLF001 - diffusers resets it only at the end of a run that went well
            before = _count_hooks(model)
            try:
                model.enable_cache(_config(cache, pipe, spans[name]))
                enabled.append(model)
            except (ValueError, TypeError, IndexError) as problem:
                raise RequestError(
                    f"the cache {cache.kind!r} cannot be used on {type(model).__name__}: {problem}"
                ) from None
            if _count_hooks(model) == before:
                raise UnsupportedError(
                    f"the cache {cache.kind!r} found nothing to hook on {type(model).__name__} and would do nothing; "
                    "leave it out, or give it identifiers that match"
                )
        yield
    finally:
        for model in enabled:
            model._reset_stateful_cache()  # noqa: SLF001 - as above
            model.disable_cache()


def _config(cache: Cache, pipe: Any, span: range) -> Any:
    import diffusers

    options = dict(cache.options)
    if cache.kind == "first_block":
        return diffusers.FirstBlockCacheConfig(**options)
    if cache.kind == "taylorseer":
        if not options.get("use_lite_mode"):
            options.setdefault("cache_identifiers", _ATTENTION)
        return diffusers.TaylorSeerCacheConfig(**options)
    if cache.kind == "pab":
        options.setdefault("spatial_attention_block_skip_range", 2)
        options.setdefault("spatial_attention_block_identifiers", ("blocks", "transformer_blocks"))
        return diffusers.PyramidAttentionBroadcastConfig(
            **options, current_timestep_callback=lambda: pipe.current_timestep
        )
    ratios = options.pop("mag_ratios")
    if len(ratios) < span.stop:
        raise ValueError(
            f"{len(ratios)} mag_ratios were given for a schedule of {span.stop} steps; give one for each step"
        )
    options.setdefault("retention_ratio", 0.0)
    return diffusers.MagCacheConfig(
        **options, mag_ratios=list(ratios[span.start : span.stop]), num_inference_steps=len(span)
    )


def _count_hooks(model: Any) -> int:
    registries = (getattr(module, "_diffusers_hook", None) for module in model.modules())
    return sum(len(registry.hooks) for registry in registries if registry is not None)
