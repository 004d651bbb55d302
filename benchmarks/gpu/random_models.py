"""Wan as it really is built, with random weights: right sizes, bytes and times; what it makes is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

# From the configs that the makers publish; `tiny` is for a machine without an accelerator.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"num_attention_heads": 2, "num_layers": 4, "ffn_dim": 64, "attention_head_dim": 12, "text_dim": 32},
    "medium": {"num_attention_heads": 12, "num_layers": 12, "ffn_dim": 3072, "text_dim": 64},
    "1.3B": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960, "text_dim": 4096},
    "14B": {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824, "text_dim": 4096},
}
XXL = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
SMALL_TEXT = {"vocab_size": 384, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2}


def transformer(size: str, device: str, dtype: torch.dtype) -> Any:
    """A text-to-video transformer of that size, made where it is to run."""
    from diffusers import WanTransformer3DModel

    made = {"attention_head_dim": 128 if size in {"1.3B", "14B"} else 64, "in_channels": 16, "out_channels": 16}
    with _made_on(device, dtype):
        return (
            WanTransformer3DModel(**made | {"freq_dim": 256} | SIZES[size]).eval().requires_grad_(requires_grad=False)
        )


def text_encoder(device: str, dtype: torch.dtype, **sizes: int) -> Any:
    """A UMT5 encoder."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(is_encoder_decoder=False, feed_forward_proj="gated-gelu", **sizes)
    with _made_on(device, dtype):
        return UMT5EncoderModel(config).eval().requires_grad_(requires_grad=False)


def save_pipeline(folder: Path, size: str, device: str, dtype: torch.dtype) -> Path:
    """A whole folder as diffusers writes it. Its text encoder is small: what it says is random either way."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline
    from transformers import ByT5Tokenizer

    small = {"base_dim": 8, "num_res_blocks": 1} if size == "tiny" else {"base_dim": 16} if size == "medium" else {}
    with _made_on(device, torch.float32):
        vae = AutoencoderKLWan(**small)
    WanPipeline(
        tokenizer=ByT5Tokenizer(),
        text_encoder=text_encoder(device, dtype, d_model=SIZES[size]["text_dim"], **SMALL_TEXT),
        vae=vae,
        transformer=transformer(size, device, dtype),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    ).save_pretrained(folder)
    return folder


def step_flops(size: str, height: int, width: int, frames: int) -> float:
    """What one pass through the transformer costs: two operations for each weight and token, and attention's own."""
    made = SIZES[size]
    tokens = ((frames - 1) // 4 + 1) * (height // 16) * (width // 16)
    wide = made["num_attention_heads"] * made.get("attention_head_dim", 128)
    weights = 4 * wide * wide + 2 * wide * wide + 2 * wide * made["ffn_dim"]  # own attention, the text's, the middle
    words = 512
    attention = 4 * tokens * (tokens + words) * wide
    return float(made["num_layers"] * (2 * tokens * weights + 4 * words * wide * wide + attention))


class _made_on:  # noqa: N801 - reads as a phrase
    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = torch.device(device), dtype

    def __enter__(self) -> None:
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        self.device.__enter__()

    def __exit__(self, *gone: object) -> None:
        self.device.__exit__(*gone)
        torch.set_default_dtype(self.before)
