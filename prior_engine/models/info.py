"""What a model's files say about it, read without torch and without weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prior_engine.errors import UnsupportedError
from prior_engine.models.families import FAMILIES, Family, family_of, refusal_of
from prior_engine.models.layout import Layout, layout_of
from prior_engine.models.spec import DEFAULT_ATTENTION, ModelSpec, resolve_device, resolve_dtype
from prior_engine.models.trusted import is_component
from prior_engine.models.weights.quantized import check_quantization

# What walks: one expert, or one for the early and one for the late steps.
EXPERTS = ("transformer", "transformer_2")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
TEXT_PARTS = (*TEXT_ENCODERS, "tokenizer", "tokenizer_2")
# What may wait in main memory until its turn; a VAE is small, and needed whole.
MAY_WAIT = (*EXPERTS, *TEXT_ENCODERS, "image_encoder")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelInfo:
    """What a model folder says about itself: family, sizes it takes, its own scheduler, its fingerprint."""

    layout: Layout
    family: Family
    size_multiple: int
    frame_multiple: int
    scheduler_class: str
    scheduler_config: Mapping[str, Any]
    boundary_ratio: float | None
    expand_timesteps: bool
    has_image_encoder: bool
    dtype: str
    quantization: str | None
    attention_backend: str
    vae_tiling: bool
    text_quantization: str | None
    merge_guidance: bool
    compiled: bool
    fingerprint: str
    text_fingerprint: str

    @property
    def components(self) -> Mapping[str, tuple[str, str]]:
        """Library and class of each component."""
        return self.layout.components

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the pipeline is told beside its components."""
        own = self.layout.index.items()
        return {name: value for name, value in own if not name.startswith("_") and not is_component(value)}

    @property
    def pipeline(self) -> str:
        return self.family.pipeline

    @property
    def is_flow(self) -> bool:
        """Whether the model was trained for flow matching, so that shifts and sigma grids mean something to it."""
        return self.scheduler_class.startswith("FlowMatch") or bool(self.scheduler_config.get("use_flow_sigmas"))

    @property
    def fps(self) -> int:
        return self.family.fps

    @property
    def max_sequence_length(self) -> int:
        return self.family.default_length

    def describe(self) -> dict[str, Any]:
        """What of the model decides a result, for recipes: no paths, no hosts."""
        told = {
            "family": self.family.name,
            "pipeline": self.pipeline,
            "fingerprint": self.fingerprint,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "attention_backend": self.attention_backend,
            "boundary_ratio": self.boundary_ratio,
            "expand_timesteps": self.expand_timesteps,
            "vae_tiling": self.vae_tiling,
        }
        # What came later is told where it is used: keys from before stay what they are.
        later = ("text_quantization", "merge_guidance", "compiled")
        return told | {name: value for name in later if (value := getattr(self, name))}


def family_at(spec: ModelSpec) -> Family:
    """Which kind of model it is: what its index alone tells."""
    return _family(spec.pipeline or str(layout_of(spec).index.get("_class_name")))


def inspect_model(spec: ModelSpec) -> ModelInfo:
    """Read what the model says about itself; no weights enter memory."""
    device = (
        resolve_device(spec.device)
        if spec.dtype == "auto" or spec.quantization or spec.text_quantization
        else spec.device
    )
    dtype = resolve_dtype(spec.dtype, device)
    check_quantization(spec.quantization, device, spec.offload)
    check_quantization(spec.text_quantization, device, spec.offload, "text_quantization")
    layout = layout_of(spec)
    family = _family(spec.pipeline or str(layout.index.get("_class_name")))
    if spec.merge_guidance and not family.merges_guidance:
        raise UnsupportedError(
            f"merge_guidance cannot be used with {family.name!r}, whose passes are not merged; leave it out"
        )
    transformer = layout.config("transformer" if "transformer" in layout.components else "transformer_2")
    scheduler = layout.config("scheduler")
    spatial, temporal = _vae_factors(layout.config("vae"))
    patch = transformer.get("patch_size", 1)
    return ModelInfo(
        layout=layout,
        family=family,
        size_multiple=family.size_multiple or spatial * (patch[-1] if isinstance(patch, list) else patch),
        frame_multiple=family.frame_multiple or temporal,
        scheduler_class=str(scheduler.get("_class_name")),
        scheduler_config={name: value for name, value in scheduler.items() if not name.startswith("_")},
        boundary_ratio=layout.index.get("boundary_ratio"),
        expand_timesteps=bool(layout.index.get("expand_timesteps", False)),
        has_image_encoder="image_encoder" in layout.components,
        dtype=dtype,
        quantization=spec.quantization,
        attention_backend=spec.attention_backend or DEFAULT_ATTENTION,
        vae_tiling=spec.vae_tiling,
        text_quantization=spec.text_quantization,
        merge_guidance=spec.merge_guidance,
        compiled=spec.compiled,
        fingerprint=layout.fingerprint(),
        text_fingerprint=layout.fingerprint(part for part in TEXT_PARTS if part in layout.components),
    )


def _family(pipeline: str) -> Family:
    family = family_of(pipeline)
    if family is not None:
        return family
    reason = refusal_of(pipeline)
    if reason is not None:
        raise UnsupportedError(f"the pipeline {pipeline!r} cannot be resumed exactly: {reason}")
    raise UnsupportedError(
        f"the pipeline {pipeline!r} is not supported; choose one of {sorted(known.pipeline for known in FAMILIES)}"
    )


def _vae_factors(vae: Mapping[str, Any]) -> tuple[int, int]:
    if "scale_factor_spatial" in vae:
        return int(vae["scale_factor_spatial"]), int(vae.get("scale_factor_temporal", 1))
    return 8, 4
