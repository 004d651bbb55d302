"""Wan's text encoder under its makers' names: how it is built, and what transformers calls its weights."""

import re
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.parts import Shapes, renamed

_NAMES = (
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


def text_name(name: str) -> str:
    """A weight of Wan's text encoder as transformers calls it; other names as they are."""
    return renamed(name, _NAMES)


def text_config(shapes: Shapes) -> dict[str, Any]:
    """The text encoder's configuration, read off its weights."""
    plain = {text_name(name): shape for name, shape in shapes.items()}
    first = "encoder.block.0.layer"
    try:
        vocabulary, width = plain["shared.weight"]
        inner = plain[f"{first}.1.DenseReluDense.wi_1.weight"][0]
        buckets, heads = plain[f"{first}.0.SelfAttention.relative_attention_bias.weight"]
        whole = plain[f"{first}.0.SelfAttention.q.weight"][0]
    except KeyError as missing:
        raise ModelSourceError(
            f"the text encoder's file holds no UMT5 in Wan's naming or in that of transformers: it has no {missing}, "
            f"but names like {min(shapes, default='none')!r}"
        ) from None
    layers = {found[1] for name in plain if (found := re.match(r"encoder\.block\.(\d+)\.", name))}
    return {
        "model_type": "umt5",
        "architectures": ["UMT5EncoderModel"],
        "vocab_size": vocabulary,
        "d_model": width,
        "d_kv": whole // heads,
        "d_ff": inner,
        "num_layers": len(layers),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": False,
        "tie_word_embeddings": False,
    }
