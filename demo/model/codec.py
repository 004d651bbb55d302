"""The VAE's part of the training: look at the world, write the encoder down, learn the decoder."""

from __future__ import annotations

import json
import time
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.model import nets
from demo.model.optim import MatrixAdam, decay
from demo.world.clips import FRAMES, SIZE, draw_clips, render_all

if TYPE_CHECKING:
    from pathlib import Path

    from diffusers import AutoencoderKLWan

SHARD: Final = 512
NUM_SHARDS: Final = 36
SHARDS_WITH_FRAMES: Final = 10
NOISE: Final = 0.10
LATENT_SHAPE: Final = (nets.Z_DIM, (FRAMES - 1) // 2 + 1, SIZE // 8, SIZE // 8)


def to_video(frames: np.ndarray) -> Tensor:
    """uint8 frames (N, T, H, W, 3) as the VAE takes them: (N, 3, T, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_frames(video: Tensor) -> np.ndarray:
    """The reverse: float32 frames (N, T, H, W, 3) in 0..1."""
    return ((video.float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 4, 1).numpy()


def fit_encoder(folder: Path, *, seed: int) -> AutoencoderKLWan:
    """Look at some clips, write the encoder, and keep it in `folder`."""
    torch.manual_seed(seed)
    video = to_video(render_all(draw_clips(640, seed=seed + 1)))
    vae = nets.build_vae()
    nets.principal_encoder(vae, video, nets.block_weights(video))
    with torch.no_grad():
        z = torch.cat([vae.encode(part).latent_dist.mode() for part in video.split(32)]).movedim(1, 0).flatten(1)
    # Scaled by the root of each channel's spread: detail stays quieter than layout, as in learned latents.
    scale = z.std(1).sqrt()
    scale = scale * (z.std(1) / scale).square().mean().sqrt()
    stats = {"mean": z.mean(1).tolist(), "std": scale.tolist()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latents.json").write_text(json.dumps(stats, indent=1))
    save_file(vae.state_dict(), folder / "encoder.safetensors")
    return load_vae(folder)


def load_vae(folder: Path, name: str = "encoder.safetensors") -> AutoencoderKLWan:
    """The VAE as `folder` has it, with the scale of its latents."""
    stats = json.loads((folder / "latents.json").read_text())
    vae = nets.build_vae(mean=stats["mean"], std=stats["std"])
    vae.load_state_dict(load_file(folder / name))
    return vae.eval()


def make_shard(folder: Path, number: int, seed: int) -> None:
    """Render and encode one shard of clips, unless it is there."""
    path = folder / f"latents-{number:03d}.safetensors"
    if path.exists():
        return
    torch.set_num_threads(1)
    frames = render_all(draw_clips(SHARD, seed=seed * 1000 + 100 + number))
    vae = load_vae(folder)
    with torch.no_grad():
        z = torch.cat([vae.encode(part).latent_dist.mode() for part in to_video(frames).split(32)])
    tensors = {"latents": nets.normalised(z, vae).half()}
    if number < SHARDS_WITH_FRAMES:
        tensors["frames"] = torch.from_numpy(frames)
    save_file(tensors, folder / f"part-{number:03d}")
    (folder / f"part-{number:03d}").rename(path)


def make_shards(folder: Path, *, seed: int, workers: int) -> None:
    """Render and encode all clips of the training."""
    with get_context("spawn").Pool(workers) as pool:
        pool.starmap(make_shard, [(folder, number, seed) for number in range(NUM_SHARDS)], chunksize=1)


def train_decoder(folder: Path, *, seed: int, steps: int, batch: int = 8, device: str = "cpu") -> None:
    """Learn to decode, a little noise on the latents included, since a denoiser never hands over perfect ones."""
    torch.manual_seed(seed + 2)
    vae = load_vae(folder)
    shards = [load_file(folder / f"latents-{n:03d}.safetensors") for n in range(SHARDS_WITH_FRAMES)]
    latents = torch.cat([s["latents"] for s in shards])
    frames = torch.cat([s["frames"] for s in shards])
    vae.to(device).requires_grad_(requires_grad=False)
    vae.decoder.requires_grad_(requires_grad=True)
    optim = MatrixAdam(
        vae.decoder.named_parameters(), matrix_lr=0.02, adam_lr=2e-3, plain=("conv_in", "conv_out", "gamma")
    )
    state_path, start, began = folder / "decoder-state.safetensors", 0, time.time()
    if state_path.exists():
        state = load_file(state_path)
        start = int(state.pop("step"))
        vae.decoder.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
        optim.restore(state)

    for step in range(start, steps):
        rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pick = torch.randint(len(latents), (batch,), generator=rng)
        z, video = latents[pick].float(), to_video(frames[pick].numpy())
        amount = torch.rand(batch, 1, 1, 1, 1, generator=rng).square() * NOISE
        z = z + amount * torch.randn(z.shape, generator=rng)
        weight = nets.block_weights(video).repeat_interleave(8, 2).repeat_interleave(8, 3)[:, None].sqrt().to(device)
        video = video.to(device)
        with torch.autocast(device, torch.bfloat16):
            out = vae.decode(nets.raw(z.to(device), vae), return_dict=False)[0].float()
        error = out - video
        (weight * (error.square() + 0.04 * error.abs())).mean().backward()
        optim.step(decay(step, steps))
        if (step + 1) % 25 == 0:
            psnr = -10 * torch.log10(error.detach().square().mean() / 4).item()
            with (folder / "decoder.jsonl").open("a") as log:
                log.write(
                    json.dumps({"step": step + 1, "psnr": round(psnr, 3), "s": round(time.time() - began, 1)}) + "\n"
                )
        if (step + 1) % 250 == 0 or step + 1 == steps:
            net = {f"net.{k}": v.contiguous() for k, v in vae.decoder.state_dict().items()}
            save_file({"step": torch.tensor(step + 1), **net, **optim.state()}, folder / "decoder-state.part")
            (folder / "decoder-state.part").rename(state_path)
            save_file(vae.state_dict(), folder / "vae.safetensors")


def first_frame_condition(latents: Tensor, grey: Tensor) -> Tensor:
    """What the image-to-video pipeline concatenates: the mask, and the latents of the image followed by grey frames.

    `grey` (Z, T, h, w) is the normalised latent of an all-grey clip; the encoder is causal, so only its later frames
    are needed.
    """
    n, t, (h, w) = len(latents), grey.shape[1], latents.shape[3:]
    mask = torch.zeros(n, nets.MASK_CHANNELS, t, h, w, device=latents.device)
    mask[:, :, 0] = 1
    later = grey[None, :, 1:].expand(n, -1, -1, -1, -1).to(latents)
    return torch.cat([mask, torch.cat([latents[:, :, :1], later], dim=2)], dim=1)


def grey_latents(vae: AutoencoderKLWan, frames: int) -> Tensor:
    """The normalised latents (Z, T, h, w) of a grey clip: what stands for `no picture yet` in the condition."""
    with torch.no_grad():
        z = vae.encode(torch.zeros(1, 3, frames, SIZE, SIZE)).latent_dist.mode()
    return nets.normalised(z, vae)[0]
