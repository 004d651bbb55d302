"""The three nets of the demo model, all stock classes: AutoencoderKLWan, UMT5EncoderModel, WanTransformer3DModel.

The VAE's encoder is not learned by descent: it is the principal components of small blocks of the world, written into
the stock layers (`principal_encoder`). So the latents are known from the start, and the decoder and the transformer
are trained on them side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResidualBlock, patchify
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

if TYPE_CHECKING:
    from collections.abc import Iterable

Z_DIM: Final = 16
PATCH: Final = 4
ENCODER_DIM: Final = 64
DECODER_DIM: Final = 64
TEXT_DIM: Final = 64
MASK_CHANNELS: Final = 2
T2V_CHANNELS: Final = Z_DIM
I2V_CHANNELS: Final = 2 * Z_DIM + MASK_CHANNELS
# A constant in one channel, so large beside the others that RMS norm divides by (almost) it alone.
ANCHOR: Final = 300.0


def build_vae(*, mean: list[float] | None = None, std: list[float] | None = None) -> AutoencoderKLWan:
    """A VAE that halves time once, and each side of the frame three times."""
    return AutoencoderKLWan(
        base_dim=ENCODER_DIM,
        decoder_base_dim=DECODER_DIM,
        z_dim=Z_DIM,
        dim_mult=[1, 1],
        num_res_blocks=0,
        temperal_downsample=[True],
        patch_size=PATCH,
        in_channels=3 * PATCH**2,
        out_channels=3 * PATCH**2,
        scale_factor_temporal=2,
        scale_factor_spatial=2 * PATCH,
        latents_mean=mean or [0.0] * Z_DIM,
        latents_std=std or [1.0] * Z_DIM,
    )


def build_transformer(in_channels: int = I2V_CHANNELS) -> WanTransformer3DModel:
    """The denoiser: 80 tokens for a clip."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=48,
        in_channels=in_channels,
        out_channels=Z_DIM,
        text_dim=TEXT_DIM,
        freq_dim=128,
        ffn_dim=576,
        num_layers=6,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )


def build_text_encoder(vocab_size: int) -> UMT5EncoderModel:
    """A small text encoder, trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocab_size,
            d_model=TEXT_DIM,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=32,
            dropout_rate=0.0,
            is_encoder_decoder=False,
        )
    )


def build_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word tokenizer over the captions; each Chinese sign is a word. Loads from a folder, downloads nothing."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))  # noqa: S106 - a token, not a password
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split(Regex(r"[\u4e00-\u9fff]"), behavior="isolated"),
        ]
    )
    words: set[str] = set()
    for text in captions:
        normal = tokenizer.normalizer.normalize_str(text)
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal))
    vocab = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *sorted(words)])}
    tokenizer.model = models.WordLevel(vocab, unk_token="<unk>")  # noqa: S106
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        model_max_length=512,
    )


class PaddedContext:
    """Cross-attention over a short context, as if it were padded with zeros to any length. For training only.

    Wan pads the prompt with zero vectors and masks nothing, so all pads are one and the same key and value. One pad
    whose logit is raised by log(number of pads) is therefore exactly the same sum, at a fraction of the price.
    Set `bias` (batch, 1, 1, tokens) before each forward pass.
    """

    _attention_backend = None
    _parallel_config = None

    def __init__(self) -> None:
        self.bias: Tensor | None = None

    @staticmethod
    def bias_for(lengths: Tensor, num_pads: Tensor, tokens: int) -> Tensor:
        """Zero on words, log(pads) on the one pad right after them, minus infinity behind it."""
        place = torch.arange(tokens, device=lengths.device)[None]
        ends = lengths[:, None]
        bias = torch.where(place == ends, num_pads.clamp(min=1).log()[:, None], torch.zeros(()))
        return bias.masked_fill(place > ends, float("-inf"))[:, None, None]

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        del attention_mask, rotary_emb
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        key = attn.norm_k(attn.to_k(encoder_hidden_states)).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        value = attn.to_v(encoder_hidden_states).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        bias = None if self.bias is None else self.bias.to(query.dtype)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))

    def attach(self, transformer: WanTransformer3DModel) -> PaddedContext:
        """Use this for every cross-attention of the transformer."""
        for block in transformer.blocks:
            block.attn2.set_processor(self)
        return self


def quiet_residuals(vae: AutoencoderKLWan) -> None:
    """Start every residual branch at zero, so that the net begins as a plain path through its shortcuts."""
    for module in vae.modules():
        last = module.conv2 if isinstance(module, WanResidualBlock) else None
        last = module.proj if isinstance(module, WanAttentionBlock) else last
        if last is not None:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


@torch.no_grad()
def principal_encoder(vae: AutoencoderKLWan, frames: Tensor, weights: Tensor) -> None:
    """Write the principal components of the frames' blocks into the encoder.

    frames: (N, 3, T, H, W) in -1..1. weights: (N, T, H/8, W/8), how much a block counts.
    The first latent frame holds the components of single 8x8 blocks, each later one those of pairs in time, turned
    so that a block at rest has (nearly) the same latent in both. Stock layers between: the path is kept linear by
    pairs of channels of opposite sign (silu(x) - silu(-x) = x) and by one large constant, which makes RMS norm a
    division by a constant.
    """
    quiet_residuals(vae)
    enc, dim = vae.encoder, ENCODER_DIM
    blocks = _blocks(frames)  # (N, T, h, w, 4 * 48)
    single, mean = _principal(blocks.flatten(0, 3), weights.flatten(), dim - 1 - Z_DIM)
    codes = (blocks - mean) @ single.T
    first, second = codes[:, 1::2], codes[:, 2::2]
    pairs = torch.cat([first, second], -1)
    pair_weights = weights[:, 1::2] + weights[:, 2::2]
    double, _ = _principal(pairs.flatten(0, 3), pair_weights.flatten(), Z_DIM, centred=False)
    # Turn the pairs' components towards the singles': what rests looks the same in both.
    at_rest = torch.cat([torch.eye(single.shape[0]), torch.eye(single.shape[0])], 1)[:Z_DIM] / 2**0.5
    u, _, vh = torch.linalg.svd(at_rest @ double.T)
    double = (u @ vh) @ double / 2**0.5

    for layer in (enc.conv_in, enc.conv_out, vae.quant_conv, vae.post_quant_conv):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    spatial, temporal = enc.down_blocks[0].resample[1], enc.down_blocks[0].time_conv
    for layer in (spatial, temporal):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)

    num_in = 3 * PATCH**2
    enc.conv_in.weight[range(num_in), range(num_in), 2, 1, 1] = 1.0

    # Channels: +z, -z, the remaining components, the anchor.
    rows = torch.cat([single[:Z_DIM], -single[:Z_DIM], single[Z_DIM:]])
    taps = rows.view(-1, 2, 2, num_in).permute(0, 3, 1, 2)
    spatial.weight[: dim - 1, :num_in, :2, :2] = taps
    spatial.bias[: dim - 1] = -rows @ mean
    spatial.bias[dim - 1] = ANCHOR

    where = [*range(Z_DIM), *range(2 * Z_DIM, dim - 1)]
    half = single.shape[0]
    for tap, part in ((1, double[:, :half]), (2, double[:, half:])):
        temporal.weight[:Z_DIM, where, tap, 0, 0] = part
        temporal.weight[Z_DIM : 2 * Z_DIM, where, tap, 0, 0] = -part
    temporal.bias[dim - 1] = ANCHOR

    # norm_out multiplies by sqrt(dim) / ANCHOR; gamma takes that back. silu(x) - silu(-x) = x.
    enc.norm_out.gamma.fill_(ANCHOR / dim**0.5)
    z = torch.arange(Z_DIM)
    enc.conv_out.weight[z, z, 2, 1, 1] = 1.0
    enc.conv_out.weight[z, z + Z_DIM, 2, 1, 1] = -1.0
    enc.conv_out.bias[Z_DIM:] = -12.0  # the log variance: next to none
    both = torch.arange(2 * Z_DIM)
    vae.quant_conv.weight[both, both, 0, 0, 0] = 1.0
    vae.post_quant_conv.weight[z, z, 0, 0, 0] = 1.0


def block_weights(frames: Tensor) -> Tensor:
    """How much each 8x8 block counts: the creature (strong colours) and its face (dark) count more than the scene."""
    top, bottom = frames.amax(1), frames.amin(1)
    vivid = ((top - bottom) > 0.45 * (top + 1)).float() + (top < -0.5).float()
    return 1 + 4 * F.avg_pool2d(vivid, 2 * PATCH)


def normalised(latents: Tensor, vae: AutoencoderKLWan) -> Tensor:
    """Latents as the transformer sees them: without the VAE's mean, over its scale."""
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return (latents - mean.view(1, -1, 1, 1, 1).to(latents)) / std.view(1, -1, 1, 1, 1).to(latents)


def raw(latents: Tensor, vae: AutoencoderKLWan) -> Tensor:
    """The reverse of `normalised`: latents as the decoder takes them."""
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return latents * std.view(1, -1, 1, 1, 1).to(latents) + mean.view(1, -1, 1, 1, 1).to(latents)


def _blocks(frames: Tensor) -> Tensor:
    patches = patchify(frames, PATCH)
    n, c, t, h, w = patches.shape
    return patches.view(n, c, t, h // 2, 2, w // 2, 2).permute(0, 2, 3, 5, 4, 6, 1).flatten(4)


def _principal(rows: Tensor, weights: Tensor, count: int, *, centred: bool = True) -> tuple[Tensor, Tensor]:
    rows, share = rows.double(), (weights / weights.sum()).double()[:, None]
    mean = (rows * share).sum(0) if centred else torch.zeros(rows.shape[1], dtype=torch.double)
    _, vectors = torch.linalg.eigh(((rows - mean) * share).T @ (rows - mean))
    return vectors.flip(1)[:, :count].T.float(), mean.float()
