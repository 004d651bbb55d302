"""The picture encoder that Wan 2.1 is published with: the picture half of an open-clip model, and what transformers calls it."""

import math
import re
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.parts import Shapes, renamed

_LAYER = r"^visual\.transformer\.(\d+)\."
_NAMES = (
    (r"^visual\.cls_embedding$", "embeddings.class_embedding"),
    (r"^visual\.patch_embedding\.", "embeddings.patch_embedding."),
    (r"^visual\.pos_embedding$", "embeddings.position_embedding.weight"),
    # As transformers spells it.
    (r"^visual\.pre_norm\.", "pre_layrnorm."),
    (r"^visual\.post_norm\.", "post_layernorm."),
    (_LAYER + r"norm([12])\.", r"encoder.layers.\1.layer_norm\2."),
    (_LAYER + r"attn\.to_qkv\.", r"encoder.layers.\1.self_attn.to_qkv."),
    (_LAYER + r"attn\.proj\.", r"encoder.layers.\1.self_attn.out_proj."),
    (_LAYER + r"mlp\.0\.", r"encoder.layers.\1.mlp.fc1."),
    (_LAYER + r"mlp\.2\.", r"encoder.layers.\1.mlp.fc2."),
)
# The half that reads text, and what compares a picture with a text: Wan asks neither.
_NEVER_ASKED = ("textual.", "log_scale", "visual.head")
# No weight tells it. ViT-H/14 has as many.
_HEADS = 16
# How its pictures were prepared in training.
_MEAN = [0.48145466, 0.4578275, 0.40821073]
_STD = [0.26862954, 0.26130258, 0.27577711]


def is_never_asked(name: str) -> bool:
    """Whether a weight is of no use to Wan."""
    return name.startswith(_NEVER_ASKED)


def picture_name(name: str) -> str:
    """A weight of the picture encoder as transformers calls it; other names as they are."""
    return renamed(name.removeprefix("vision_model."), _NAMES)


def picture_config(shapes: Shapes) -> dict[str, Any]:
    """The picture encoder's configuration, read off its weights as far as they tell it."""
    plain = {picture_name(name): shape for name, shape in shapes.items()}
    try:
        width, _, patch, _ = plain["embeddings.patch_embedding.weight"]
        places = plain["embeddings.position_embedding.weight"][-2]
        inner = plain["encoder.layers.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError) as problem:
        raise ModelSourceError(
            f"the picture encoder's file holds no CLIP in open-clip's naming or in that of transformers ({problem}), "
            f"but names like {min(shapes, default='none')!r}"
        ) from None
    if width % _HEADS:
        raise ModelSourceError(
            f"the picture encoder is {width} wide, and that of Wan 2.1 has {_HEADS} heads of one width; "
            "give the model whose CLIP is a ViT-H/14, or take it in diffusers layout"
        )
    layers = {found[1] for name in plain if (found := re.match(r"encoder\.layers\.(\d+)\.", name))}
    return {
        "model_type": "clip_vision_model",
        "architectures": ["CLIPVisionModel"],
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": len(layers),
        "num_attention_heads": _HEADS,
        # One place is that of the whole picture.
        "image_size": math.isqrt(places - 1) * patch,
        "patch_size": patch,
        "projection_dim": 1024,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
    }


def processor_config(picture: dict[str, Any]) -> dict[str, Any]:
    """How a picture is made ready for the encoder of that configuration."""
    size = picture.get("image_size", 224)
    return {
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _MEAN,
        "image_std": _STD,
        "do_convert_rgb": True,
    }
