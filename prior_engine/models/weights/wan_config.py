"""The config.json beside a Wan transformer of its makers, in the words of diffusers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.parts import Shapes
from prior_engine.models.weights.wan_shape import TWO_PICTURES, bare

# By diffusers' name: the makers'.
_NUMBERS = {
    "num_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "in_channels": "in_dim",
    "out_channels": "out_dim",
    "ffn_dim": "ffn_dim",
    "freq_dim": "freq_dim",
}


def transformer_config(
    own: Mapping[str, Any], shapes: Shapes, file: Path, *, pictures: int = 0, control: bool = False
) -> dict[str, Any]:
    """The configuration, of a model that sees `pictures` and may follow a control video; some of it only the weights tell."""
    width, heads = _number(own, "dim", file), _number(own, "num_heads", file)
    if width % heads:
        raise ModelSourceError(f"{_said(file)} is not whole: a width of {width} cannot be shared among {heads} heads")
    added = sorted(name for name, value in own.items() if name.startswith("add_") and value)
    if added:
        raise ModelSourceError(
            f"{_said(file)} says {added[0]}={own[added[0]]!r}, which no Wan of its makers has and is not read; "
            "take the model in diffusers layout, if it is published so"
        )
    plain = {bare(name): shape for name, shape in shapes.items()}

    def told(*names: str, default: tuple[int, ...]) -> tuple[int, ...]:
        return next((plain[name] for name in names if name in plain), default)

    patch = told("patch_embedding.weight", default=(width, 0, 1, 2, 2))
    text = told("text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight", default=(width, 4096))
    config = {
        "_class_name": "WanVACETransformer3DModel" if control else "WanTransformer3DModel",
        **{ours: _number(own, theirs, file) for ours, theirs in _NUMBERS.items()},
        "attention_head_dim": width // heads,
        "patch_size": list(patch[2:]),
        "text_dim": text[1],
        "eps": own.get("eps", 1e-6),
        "qk_norm": "rms_norm_across_heads",
        "cross_attn_norm": True,
    }
    if pictures:
        seen = told("img_emb.proj.0.weight", "condition_embedder.image_embedder.norm1.weight", default=(1280,))
        config |= {"image_dim": seen[0], "added_kv_proj_dim": width}
    if pictures > 1:
        both = told(TWO_PICTURES[0], f"condition_embedder.{TWO_PICTURES[1]}", default=(1, 514, 1280))
        config["pos_embed_seq_len"] = both[1]
    if control:
        config["vace_layers"] = _numbers(own, "vace_layers", file)
        config["vace_in_channels"] = told("vace_patch_embedding.weight", default=(width, 96))[1]
    return config


def _said(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _number(own: Mapping[str, Any], name: str, file: Path) -> int:
    value = own.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelSourceError(
            f"{_said(file)} has no whole number {name!r}, but {value!r}; is it the file that came with the weights?"
        )
    return value


def _numbers(own: Mapping[str, Any], name: str, file: Path) -> list[int]:
    value = own.get(name)
    if not isinstance(value, list) or not value or not all(type(one) is int for one in value):
        raise ModelSourceError(
            f"{_said(file)} has no list of numbers {name!r}, but {value!r}; is it the file that came with the weights?"
        )
    return value
