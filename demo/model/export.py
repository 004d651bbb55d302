"""Write the trained nets as plain pipeline folders that stock diffusers loads offline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline, WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file, save_file

from demo.model import nets
from demo.model.codec import load_vae
from demo.world.captions import every_caption

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

SHIFT: Final = 5.0
STORED: Final = torch.bfloat16


def export(folder: Path, weights: Path) -> None:
    """Two folders from one training: image-to-video as trained, text-to-video as its first input channels.

    Text-to-video examples were trained with mask and image channels at zero, so leaving those channels out changes no
    number. The other parts are the same files in both folders, which git keeps once.
    """
    tokenizer, text_encoder, i2v = trained(folder)
    t2v = nets.build_transformer(nets.T2V_CHANNELS)
    t2v.load_state_dict(first_channels(i2v))
    shared = {
        "vae": load_vae(folder, "vae.safetensors"),
        "text_encoder": text_encoder,
        "tokenizer": tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    }
    for part in (shared["vae"], text_encoder, i2v, t2v):
        part.to(STORED)
    pipelines = {
        "t2v": WanPipeline(transformer=t2v, **shared),
        "i2v": WanImageToVideoPipeline(transformer=i2v, image_encoder=None, image_processor=None, **shared),
    }
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(weights / name)
        # The name that every version of transformers knows this tokenizer by.
        index = weights / name / "model_index.json"
        index.write_text(index.read_text().replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'))


def restore(folder: Path, weights: Path, *, step: int) -> None:
    """The reverse of `export`: a training folder that goes on after `step` from shipped weights alone."""
    pipe = WanImageToVideoPipeline.from_pretrained(weights / "i2v", dtype=torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    stats = {"mean": pipe.vae.config.latents_mean, "std": pipe.vae.config.latents_std}
    (folder / "latents.json").write_text(json.dumps(stats, indent=1))
    for name in ("encoder", "vae"):
        save_file(pipe.vae.state_dict(), folder / f"{name}.safetensors")
    held = {f"net.{n}": p.detach() for n, p in pipe.transformer.named_parameters()}
    held |= {f"text.{n}": p.detach() for n, p in pipe.text_encoder.named_parameters()}
    average = {f"average.{n}": p.contiguous() for n, p in held.items()}
    save_file({"step": torch.tensor(step), **average}, folder / "denoiser-state.safetensors")


def trained(folder: Path) -> tuple[PreTrainedTokenizerFast, UMT5EncoderModel, WanTransformer3DModel]:
    """Tokenizer, text encoder and image-to-video transformer as the running average of the training has them."""
    tokenizer = nets.build_tokenizer(every_caption())
    state = load_file(folder / "denoiser-state.safetensors")
    text_encoder = nets.build_text_encoder(len(tokenizer))
    text_encoder.load_state_dict(_part(state, "average.text."), strict=False)
    text_encoder.encoder.embed_tokens.weight = text_encoder.shared.weight
    i2v = nets.build_transformer()
    i2v.load_state_dict(_part(state, "average.net."))
    return tokenizer, text_encoder.eval(), i2v.eval()


def first_channels(i2v: WanTransformer3DModel) -> dict[str, Tensor]:
    """The image-to-video weights without the inputs for mask and image."""
    state = dict(i2v.state_dict())
    state["patch_embedding.weight"] = state["patch_embedding.weight"][:, : nets.T2V_CHANNELS].clone()
    return state


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
