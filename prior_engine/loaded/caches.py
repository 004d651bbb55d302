"""Step caches on resumed runs, only when asked for: set before a run, gone after it, also when it breaks."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
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
    with _enabled(cache.kind, experts, lambda name: _config(cache, pipe, spans[name])):
        yield


@contextlib.contextmanager
def calibrating(experts: Mapping[str, Any], *, spans: Mapping[str, range]) -> Iterator[Callable[[], tuple[float, ...]]]:
    """Measure the `mag_ratios` of one run, and skip nothing; yields what tells those of the steps made so far."""
    import diffusers

    def config(name: str) -> Any:
        # One step more than there is: at the end of its steps the hook would print what it found, and forget it.
        return diffusers.MagCacheConfig(calibrate=True, num_inference_steps=len(spans[name]) + 1)

    ordered = sorted(experts, key=lambda name: spans[name].start)
    with _enabled("mag", experts, config):
        yield lambda: tuple(ratio for name in ordered for ratio in _guided_ratios(experts[name]))


def _guided_ratios(model: Any) -> list[float]:
    """What the hooks measured in the guided call, which every pipeline makes first."""
    from diffusers.hooks.mag_cache import MagCacheHeadHook

    for hook in _hooks(model):
        if isinstance(hook, MagCacheHeadHook):
            states = hook.state_manager._state_cache  # noqa: SLF001 - diffusers tells it nowhere else but in print
            return list(next(iter(states.values())).calibration_ratios) if states else []
    return []


@contextlib.contextmanager
def _enabled(kind: str, experts: Mapping[str, Any], config: Callable[[str], Any]) -> Iterator[None]:
    enabled = []
    try:
        for name, model in experts.items():
            model._reset_stateful_cache()  # noqa: SLF001 - diffusers resets it only at the end of a run that went well
            before = len(_hooks(model))
            try:
                model.enable_cache(config(name))
                enabled.append(model)
            except (ValueError, TypeError, IndexError) as problem:
                raise RequestError(f"the cache {kind!r} cannot be used on {type(model).__name__}: {problem}") from None
            if len(_hooks(model)) == before:
                raise UnsupportedError(
                    f"the cache {kind!r} found nothing to hook on {type(model).__name__} and would do nothing; "
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


def _hooks(model: Any) -> list[Any]:
    registries = (getattr(module, "_diffusers_hook", None) for module in model.modules())
    return [hook for registry in registries if registry is not None for hook in registry.hooks.values()]
