"""Weights under their makers' names, put into the classes of diffusers and transformers."""

import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.gguf_file import SUFFIX, load_gguf, put_packed
from prior_engine.models.weights.wan_shape import bare

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
# UMT5 as Wan's own code calls its layers.
_TEXT = (
    (r"^token_embedding\.weight$", "shared.weight"),
    (r"^norm\.weight$", "encoder.final_layer_norm.weight"),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.block.\1.layer.0.SelfAttention."),
    (r"^blocks\.(\d+)\.pos_embedding\.embedding\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
)


def from_files(kind: Any, files: Iterable[Path], config: Mapping[str, Any], dtype: "torch.dtype") -> Any:
    """A component from the files that are its checkpoint together."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in files:
        held = load_gguf(file) if file.suffix == SUFFIX else load_file(file)
        weights |= {bare(name): tensor for name, tensor in held.items()}
    make = _diffusers_model if hasattr(kind, "from_single_file") else _text_model
    model, left = make(kind, config, weights, dtype)
    if left:
        log.warning(
            "%d weights were left out, since %s has no place for them, such as %r", len(left), kind.__name__, left[0]
        )
    return model


def _diffusers_model(
    kind: Any, config: Mapping[str, Any], weights: "dict[str, torch.Tensor]", dtype: "torch.dtype"
) -> tuple[Any, list[str]]:
    """A model of diffusers. Its own `from_single_file` casts what has to stay in fp32, and other bits would come out."""
    import torch
    from accelerate import init_empty_weights
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    rename = SINGLE_FILE_LOADABLE_CLASSES.get(kind.__name__, {}).get("checkpoint_mapping_fn")
    with init_empty_weights():
        model = kind.from_config(dict(config))
    wanted = model.state_dict()
    # Weights under the names of diffusers need no renaming, whoever wrote the file.
    named = weights if rename is None or wanted.keys() <= weights.keys() else rename(weights, config=dict(config))
    missing = sorted(wanted.keys() - named.keys())
    if missing:
        raise ModelSourceError(f"the files lack {len(missing)} weights of {kind.__name__}, such as {missing[0]!r}")
    exact = set(getattr(kind, "_keep_in_fp32_modules", None) or ())
    for name, place in wanted.items():
        found = getattr(named[name], "quant_shape", named[name].shape)
        if tuple(found) != tuple(place.shape):
            raise ModelSourceError(
                f"the weight {name!r} is {tuple(found)} in the files and {tuple(place.shape)} in {kind.__name__}"
            )
    packed = put_packed(model, named, exact, dtype)
    cast = {
        name: named[name].to(torch.float32 if exact & set(name.split(".")) else dtype)
        for name in wanted.keys() - packed
    }
    model.load_state_dict(cast, assign=True, strict=not packed)
    return model, sorted(named.keys() - wanted.keys())


def _text_model(
    kind: Any, config: Mapping[str, Any], weights: "dict[str, torch.Tensor]", dtype: "torch.dtype"
) -> tuple[Any, list[str]]:
    """A text encoder, its weights under Wan's names or under those of transformers."""
    named = {text_name(name): tensor for name, tensor in weights.items()}
    if "shared.weight" in named:
        named.setdefault("encoder.embed_tokens.weight", named["shared.weight"])
    made = kind.config_class(**{name: value for name, value in config.items() if name != "model_type"})
    model, told = kind.from_pretrained(None, config=made, state_dict=named, dtype=dtype, output_loading_info=True)
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelSourceError(f"the text encoder's files lack {len(missing)} weights, such as {missing[0]!r}")
    return model, sorted(told["unexpected_keys"])


def text_name(name: str) -> str:
    """A weight of Wan's text encoder as transformers calls it; other names as they are."""
    for pattern, replacement in _TEXT:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return name
