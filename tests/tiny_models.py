"""Tiny models with random weights, one for each family: all mechanics, no quality, no network."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _text(folder: Path) -> dict[str, Any]:
    del folder
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
        relative_attention_num_buckets=8, is_encoder_decoder=False,
    )  # fmt: skip
    return {"tokenizer": ByT5Tokenizer(), "text_encoder": UMT5EncoderModel(config).eval()}


def _wan_vae() -> Any:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()


_WAN = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 16, "out_channels": 16,
    "text_dim": 32, "freq_dim": 32, "ffn_dim": 32, "num_layers": 4, "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 32,
}  # fmt: skip


def _wan_transformer(**more: Any) -> Any:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**{**_WAN, **more}).eval()


def _clip() -> dict[str, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16,
        projection_dim=16,
    )  # fmt: skip
    processor = CLIPImageProcessor(crop_size={"height": 32, "width": 32}, size={"shortest_edge": 32})
    return {"image_encoder": CLIPVisionModel(config).eval(), "image_processor": processor}


def _euler(shift: float = 5.0) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=shift)


def _unipc() -> Any:
    from diffusers import UniPCMultistepScheduler

    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def _wan_t2v(folder: Path) -> Any:
    from diffusers import WanPipeline

    return WanPipeline(**_text(folder), vae=_wan_vae(), transformer=_wan_transformer(), scheduler=_unipc())


def _wan_t2v_two(folder: Path) -> Any:
    from diffusers import WanPipeline

    return WanPipeline(
        **_text(folder), vae=_wan_vae(), transformer=_wan_transformer(), transformer_2=_wan_transformer(),
        scheduler=_unipc(), boundary_ratio=0.875,
    )  # fmt: skip


def _wan_ti2v(folder: Path) -> Any:
    from diffusers import WanPipeline

    return WanPipeline(
        **_text(folder), vae=_wan_vae(), transformer=_wan_transformer(), scheduler=_unipc(), expand_timesteps=True
    )


def _wan_i2v(folder: Path) -> Any:
    from diffusers import WanImageToVideoPipeline

    transformer = _wan_transformer(in_channels=36, image_dim=16, added_kv_proj_dim=24)
    return WanImageToVideoPipeline(
        **_text(folder), **_clip(), vae=_wan_vae(), transformer=transformer, scheduler=_euler()
    )


def _wan_i2v_two(folder: Path) -> Any:
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        **_text(folder), vae=_wan_vae(), transformer=_wan_transformer(in_channels=36),
        transformer_2=_wan_transformer(in_channels=36), scheduler=_unipc(), boundary_ratio=0.9,
    )  # fmt: skip


def _wan_flf2v(folder: Path) -> Any:
    from diffusers import WanImageToVideoPipeline

    transformer = _wan_transformer(in_channels=36, image_dim=16, added_kv_proj_dim=24, pos_embed_seq_len=2 * 5)
    return WanImageToVideoPipeline(
        **_text(folder), **_clip(), vae=_wan_vae(), transformer=transformer, scheduler=_unipc()
    )


def _wan_ti2v_image(folder: Path) -> Any:
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        **_text(folder), vae=_wan_vae(), transformer=_wan_transformer(), scheduler=_unipc(), expand_timesteps=True
    )


def _wan_v2v(folder: Path) -> Any:
    from diffusers import WanVideoToVideoPipeline

    return WanVideoToVideoPipeline(**_text(folder), vae=_wan_vae(), transformer=_wan_transformer(), scheduler=_unipc())


def _wan_vace(folder: Path) -> Any:
    from diffusers import WanVACEPipeline, WanVACETransformer3DModel

    transformer = WanVACETransformer3DModel(**_WAN, vace_layers=[0, 2], vace_in_channels=96).eval()
    return WanVACEPipeline(**_text(folder), vae=_wan_vae(), transformer=transformer, scheduler=_unipc())


def _byte_text() -> dict[str, Any]:
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    config = T5Config(vocab_size=384, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_encoder_decoder=False)
    return {"tokenizer": ByT5Tokenizer(), "text_encoder": T5EncoderModel(config).eval()}


def _clip_text(name: str) -> dict[str, Any]:
    from transformers import ByT5Tokenizer, CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=384, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, eos_token_id=1, bos_token_id=0, pad_token_id=0, projection_dim=16,
    )  # fmt: skip
    suffix = name.removeprefix("text_encoder")
    tokenizer = ByT5Tokenizer(model_max_length=77)
    return {name: CLIPTextModel(config).eval(), f"tokenizer{suffix}": tokenizer}


def _chat_text(template: str) -> dict[str, Any]:
    """A language model whose tokenizer has learnt its pipeline's own template, so that it stays short."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<pad>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([template] * 4, trainer)
    config = LlamaConfig(
        vocab_size=600, hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")
    return {"tokenizer": fast, "text_encoder": LlamaModel(config).eval()}


def _ltx_parts(*, timestep_conditioning: bool = False) -> dict[str, Any]:
    from diffusers import AutoencoderKLLTXVideo, FlowMatchEulerDiscreteScheduler, LTXVideoTransformer3DModel

    vae = AutoencoderKLLTXVideo(
        latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False), decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=timestep_conditioning, patch_size=1, patch_size_t=1, encoder_causal=True,
        decoder_causal=False,
    ).eval()  # fmt: skip
    transformer = LTXVideoTransformer3DModel(
        in_channels=8, out_channels=8, patch_size=1, patch_size_t=1, num_attention_heads=4, attention_head_dim=8,
        cross_attention_dim=32, num_layers=2, caption_channels=32,
    ).eval()  # fmt: skip
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, max_image_seq_len=4096,
        shift_terminal=0.1,
    )  # fmt: skip
    return {**_byte_text(), "vae": vae, "transformer": transformer, "scheduler": scheduler}


def _ltx(folder: Path) -> Any:
    from diffusers import LTXPipeline

    return LTXPipeline(**_ltx_parts(timestep_conditioning=True))


def _ltx_i2v(folder: Path) -> Any:
    from diffusers import LTXImageToVideoPipeline

    return LTXImageToVideoPipeline(**_ltx_parts())


def _hunyuan(folder: Path) -> Any:
    from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    ).eval()
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10, num_layers=1,
        num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=16, rope_axes_dim=(2, 4, 4),
    ).eval()  # fmt: skip
    return HunyuanVideoPipeline(
        **_chat_text(str(DEFAULT_PROMPT_TEMPLATE["template"])), **_clip_text("text_encoder_2"), vae=vae,
        transformer=transformer, scheduler=_euler(shift=7.0),
    )  # fmt: skip


def _cogvideox_parts() -> dict[str, Any]:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

    vae = AutoencoderKLCogVideoX(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2
    ).eval()
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=4, attention_head_dim=8, in_channels=4, out_channels=4, time_embed_dim=2,
        text_embed_dim=32, num_layers=2, sample_width=4, sample_height=4, sample_frames=9, max_text_seq_length=32,
    ).eval()  # fmt: skip
    scheduler = CogVideoXDDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=3.0,
    )  # fmt: skip
    return {**_byte_text(), "vae": vae, "transformer": transformer, "scheduler": scheduler}


def _cogvideox(folder: Path) -> Any:
    from diffusers import CogVideoXPipeline

    return CogVideoXPipeline(**_cogvideox_parts())


def _flux(folder: Path) -> Any:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    vae = AutoencoderKL(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.36,
    ).eval()  # fmt: skip
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    ).eval()  # fmt: skip
    text = _byte_text()
    return FluxPipeline(
        **_clip_text("text_encoder"), tokenizer_2=text["tokenizer"], text_encoder_2=text["text_encoder"], vae=vae,
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )  # fmt: skip


def _qwen_image(folder: Path) -> Any:
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImagePipeline,
        QwenImageTransformer2DModel,
    )

    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    ).eval()
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    ).eval()  # fmt: skip
    template = (
        "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial "
        "relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    )
    return QwenImagePipeline(
        **_chat_text(template), vae=vae, transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, shift_terminal=0.02
        ),
    )  # fmt: skip


_BUILDERS: dict[str, Callable[[Path], Any]] = {
    "wan-t2v": _wan_t2v,
    "wan-t2v-two-experts": _wan_t2v_two,
    "wan-ti2v": _wan_ti2v,
    "wan-ti2v-image": _wan_ti2v_image,
    "wan-i2v": _wan_i2v,
    "wan-i2v-two-experts": _wan_i2v_two,
    "wan-flf2v": _wan_flf2v,
    "wan-v2v": _wan_v2v,
    "wan-vace": _wan_vace,
    "ltx": _ltx,
    "ltx-i2v": _ltx_i2v,
    "hunyuan-video": _hunyuan,
    "cogvideox": _cogvideox,
    "flux": _flux,
    "qwen-image": _qwen_image,
}
KINDS = tuple(_BUILDERS)


def build(kind: str, folder: Path) -> Path:
    """Make the tiny model `kind` in `folder` (diffusers layout), unless it is there already."""
    import torch
    from transformers.utils.logging import disable_progress_bar

    if (folder / "model_index.json").is_file():
        return folder
    disable_progress_bar()  # or each model draws one while it is written
    state = torch.get_rng_state()
    torch.manual_seed(zlib.crc32(kind.encode()))
    try:
        pipeline = _BUILDERS[kind](folder)
        _spread(pipeline)
        pipeline.save_pretrained(folder)
    finally:
        torch.set_rng_state(state)
    return folder


def _spread(pipeline: Any) -> None:
    """Make the freshly drawn weights large enough that every input visibly changes the output."""
    import torch

    for name in ("transformer", "transformer_2"):
        model = getattr(pipeline, name, None)
        if model is not None:
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.ndim > 1:
                        parameter.normal_(0, 0.12)
