"""A Wan text-to-video model as its makers publish it: one folder, their own names, no index.

Its transformer's own config says how it is built; the rest is what all Wan 2.1 models share.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.trusted import PICKLES, read_json
from prior_engine.models.weights.parts import Part, Shapes, find_part, refusal_of_pickle

_TRANSFORMER = "diffusion_pytorch_model*.safetensors"
_TEXT, _VAE = "models_t5_*", "Wan2.1_VAE*"
_TOKENIZER = Path("google", "umt5-xxl")


def is_original(folder: Path) -> bool:
    """Whether a folder is one."""
    config = folder / "config.json"
    if (folder / "model_index.json").exists() or not config.is_file():
        return False
    return read_json(config).get("_class_name") == "WanModel"


class Original:
    """What such a folder holds, in the words of diffusers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = read_json(folder / "config.json")
        if self._own.get("model_type") != "t2v":
            raise ModelSourceError(
                f"{str(folder)!r} is a Wan model of the type {self._own.get('model_type')!r} in its makers' layout, and only text to "
                "video ('t2v') is read from it; take the model in diffusers layout, and name these weights as model.parts.transformer"
            )
        self.parts = {
            "transformer": find_part("transformer", [str(folder / _TRANSFORMER)]),
            "text_encoder": find_part("text_encoder", [str(self._one(_TEXT))]),
            "vae": find_part("vae", [str(self._one(_VAE))]),
            "tokenizer": Part(name="tokenizer", folder=folder / _TOKENIZER),
        }

    @property
    def index(self) -> dict[str, Any]:
        """As model_index.json would have it."""
        tokenizer = read_json(self.folder / _TOKENIZER / "tokenizer_config.json")
        return {
            "_class_name": "WanPipeline",
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLWan"],
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "tokenizer": ["transformers", tokenizer.get("tokenizer_class", "T5TokenizerFast")],
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        }

    @property
    def configs(self) -> Mapping[str, dict[str, Any]]:
        """What each component's config.json would hold."""
        own, vae = self._own, self.parts["vae"].shapes()
        return {
            "transformer": {
                "_class_name": "WanTransformer3DModel",
                "num_layers": own["num_layers"],
                "num_attention_heads": own["num_heads"],
                "attention_head_dim": own["dim"] // own["num_heads"],
                "in_channels": own["in_dim"],
                "out_channels": own["out_dim"],
                "ffn_dim": own["ffn_dim"],
                "freq_dim": own["freq_dim"],
                "text_dim": own.get("text_dim", 4096),
                "eps": own.get("eps", 1e-6),
                "qk_norm": "rms_norm_across_heads",
                "cross_attn_norm": True,
            },
            "vae": {"_class_name": "AutoencoderKLWan", **vae_build(vae)},
            "text_encoder": text_config(self.parts["text_encoder"].shapes()),
            "scheduler": {
                "_class_name": "UniPCMultistepScheduler",
                "prediction_type": "flow_prediction",
                "use_flow_sigmas": True,
                "num_train_timesteps": 1000,
                # As Wan's own conversions to diffusers have it.
                "flow_shift": 3.0,
            },
        }

    def _one(self, pattern: str) -> Path:
        """The file of a pattern: safetensors, or what to do about a pickle."""
        found = sorted(self.folder.glob(pattern))
        good = [file for file in found if file.suffix == ".safetensors"]
        if good:
            return good[0]
        pickles = [file for file in found if file.suffix in PICKLES]
        if pickles:
            raise ModelSourceError(refusal_of_pickle(pickles[0]))
        raise ModelSourceError(f"{str(self.folder)!r} has no {pattern!r}; is the download whole?")


def vae_build(shapes: Shapes) -> dict[str, Any]:
    """What of the VAE's configuration its weights tell; the rest is as in all VAEs of Wan 2.1."""
    first, last = shapes.get("encoder.conv1.weight"), shapes.get("decoder.conv1.weight")
    if first is None or last is None:
        raise ModelSourceError(
            f"the VAE's file holds no VAE of Wan 2.1, but names like {min(shapes, default='none')!r}"
        )
    if first[1] != 3 or last[1] != 16:
        raise ModelSourceError(
            f"the VAE has {first[1]} channels in and {last[1]} latent ones, and Wan 2.1's has 3 and 16; "
            "of other models take the folder in diffusers layout"
        )
    return {"base_dim": first[0], "z_dim": last[1]}


def text_config(shapes: Shapes) -> dict[str, Any]:
    """The text encoder's configuration, read off its weights."""
    try:
        vocabulary, width = shapes["token_embedding.weight"]
        inner = shapes["blocks.0.ffn.fc1.weight"][0]
        buckets, heads = shapes["blocks.0.pos_embedding.embedding.weight"]
        whole = shapes["blocks.0.attn.q.weight"][0]
    except KeyError as missing:
        raise ModelSourceError(f"the text encoder's file holds no UMT5 in Wan's naming: it has no {missing}") from None
    layers = {found[1] for name in shapes if (found := re.match(r"blocks\.(\d+)\.", name))}
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
