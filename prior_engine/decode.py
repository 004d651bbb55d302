"""Latents to frames, apart from denoising: streamed where the VAE allows it, by the pipeline itself elsewhere."""

from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
import torch

from prior_engine.errors import RequestError
from prior_engine.loaded import calls as rules
from prior_engine.loaded.components import Components
from prior_engine.loaded.memory import explained_memory
from prior_engine.loaded.repeatable import repeatable
from prior_engine.runs.noise import generator_for, put_back
from prior_engine.runs.snapshot import Snapshot
from prior_engine.runs.solvers.window import prepare

Frame = np.ndarray[Any, np.dtype[np.uint8]]
Frames = list[Frame]


@torch.no_grad()
def frames_of(components: Components, made: Snapshot | torch.Tensor, lock: Lock) -> Iterator[Frame]:
    """Each frame as soon as it is decoded; the engine is held only where its pipeline is called."""
    latents = made.latents if isinstance(made, Snapshot) else made
    if latents.shape[0] != 1:
        raise RequestError(f"{latents.shape[0]} samples were given; decode one at a time")
    chunks: Iterator[Any]
    if components.info.family.streams_decode:
        extra = len(made.pins.get("identity.references", ())) if isinstance(made, Snapshot) else 0
        with lock:
            vae = components.pipe.vae
        chunks = _wan(vae, latents[:, :, extra:], components.device)
    elif isinstance(made, Snapshot):
        chunks = _by_pipeline(components, made, lock)
    else:
        raise RequestError("bare latents do not tell their size in this family; give the snapshot")
    while True:
        # Only while a piece is made: a reader may take its time between two frames, or never come back.
        with explained_memory(), repeatable(wanted=components.spec.deterministic):
            frames = next(chunks, None)
        if frames is None:
            return
        yield from frames


def _wan(vae: Any, latents: torch.Tensor, device: str) -> Iterator[Frames]:
    """One latent frame at a time through Wan's causal decoder, which keeps what it needs of the frames before.

    That memory is given to it here, so that any number of videos can be decoded at the same time.
    """
    z = latents.to(device, vae.dtype)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(z.device, z.dtype)
    inverse = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(z.device, z.dtype)
    z = z / inverse + mean
    if vae.use_tiling:  # tiles are cut over the whole length
        yield _pixels(vae.decode(z, return_dict=False)[0])
        return
    x = vae.post_quant_conv(z)
    memory = [None] * vae._cached_conv_counts["decoder"]  # noqa: SLF001 - diffusers offers no other way to go piece by piece
    for index in range(x.shape[2]):
        chunk = vae.decoder(x[:, :, index : index + 1], feat_cache=memory, feat_idx=[0], first_chunk=index == 0)
        if vae.config.patch_size is not None:
            from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

            chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
        yield _pixels(chunk.clamp(-1.0, 1.0))


def _by_pipeline(components: Components, made: Snapshot, lock: Lock) -> Iterator[Frames]:
    """The pipeline called without a step does exactly what it does after its last one."""
    import diffusers

    info = components.info
    with lock:
        components.need_expert()
    generator = generator_for(0)
    if made.generators:
        put_back([generator], made.generators)
    arguments: dict[str, Any] = {
        "height": made.pins["identity.height"],
        "width": made.pins["identity.width"],
        "num_inference_steps": 2,
        info.family.guidance: 1.0,
        "latents": made.latents.to(components.device),
        "generator": generator,
        "output_type": "np",
        "return_dict": False,
    }
    if info.family.media == "video":
        arguments["num_frames"] = made.pins["identity.frames"]
    arguments |= rules.blank_embeddings(info, components.device)
    scheduler = getattr(diffusers, info.scheduler_class).from_config(dict(info.scheduler_config))
    with lock:
        out = prepare(components.pipe, scheduler, arguments)
    frames = out[0] if info.family.media == "video" else out
    for frame in frames:
        yield [(frame * 255).round().astype(np.uint8)]


def _pixels(chunk: torch.Tensor) -> Frames:
    """Frames of a 1 x 3 x frames x height x width chunk in -1..1, rounded as diffusers rounds them."""
    scaled = (chunk[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).float().cpu().numpy()
    return list((scaled * 255).round().astype(np.uint8))
