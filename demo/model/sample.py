"""A plain sampling loop for measuring: many clips at once, every step kept, any grid, any start.

It walks exactly like the stock pipelines with a FlowMatchEulerDiscreteScheduler (a test holds it to them), but takes a
batch of seeds and hands out every intermediate state, which is what the fidelity measurements need.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import AutoTokenizer, PreTrainedTokenizerFast, UMT5EncoderModel

from demo.model import nets
from demo.model.codec import LATENT_SHAPE, first_frame_condition, grey_latents, load_vae, to_frames, to_video
from demo.model.export import trained
from demo.world.clips import FRAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

WEIGHTS: Final = Path(__file__).parents[1] / "weights"
FOLDERS: Final = {"t2v": WEIGHTS / "t2v", "i2v": WEIGHTS / "i2v"}
MAX_SEQUENCE_LENGTH: Final = 512


def shifted(u: Tensor, shift: float) -> Tensor:
    """The flow-matching shift of a grid."""
    return shift * u / (1 + (shift - 1) * u)


def wan_grid(steps: int, shift: float = 5.0) -> Tensor:
    """The reference grid of Wan, the final zero included: shift(linspace(1, 0, steps + 1))."""
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift)


def diffusers_grid(steps: int, shift: float = 5.0) -> Tensor:
    """The grid that diffusers' scheduler lays by itself, which ends nearly at zero before its last step."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.double()


def unipc_solver(sigmas: Tensor) -> UniPCMultistepScheduler:
    """A second-order UniPC that walks `sigmas`, as the engine sets it up."""
    solver = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    solver.set_timesteps(len(sigmas) - 1)
    # log(1 - sigma) must stay finite.
    walked = sigmas.clamp(max=1 - 1e-6)
    solver.sigmas, solver.timesteps = walked.float(), walked[:-1] * 1000
    return solver


def respaced_tail(sigma: float, steps: int, shift: float = 5.0) -> Tensor:
    """What noise is left at `sigma`, walked in `steps` even steps of the unshifted grid, zero included."""
    u = sigma / (shift - (shift - 1) * sigma)
    return shifted(torch.linspace(u, 0, steps + 1, dtype=torch.float64), shift)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampler:
    """The parts of a pipeline folder, ready to walk batches."""

    transformer: WanTransformer3DModel
    vae: AutoencoderKLWan
    text_encoder: UMT5EncoderModel
    tokenizer: PreTrainedTokenizerFast
    context: nets.PaddedContext
    grey: Tensor
    device: str = "cpu"

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Sampler:
        """Load a pipeline folder's parts in float32. Only nets run on another device; what they take and give is here."""
        transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", dtype=torch.float32).eval()
        vae = AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32).eval()
        grey = grey_latents(vae, FRAMES)
        return cls(
            transformer=transformer.to(device),
            vae=vae.to(device),
            text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
            tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
            context=nets.PaddedContext().attach(transformer),
            grey=grey,
            device=device,
        )

    @classmethod
    def of_training(cls, folder: Path, device: str = "cpu") -> Sampler:
        """The nets as a training folder has them now."""
        tokenizer, text_encoder, transformer = trained(folder)
        vae = load_vae(folder, "vae.safetensors")
        grey = grey_latents(vae, FRAMES)
        return cls(
            transformer=transformer.to(device),
            vae=vae.to(device),
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            context=nets.PaddedContext().attach(transformer),
            grey=grey,
            device=device,
        )

    @property
    def takes_image(self) -> bool:
        """Whether the transformer wants a first frame."""
        return bool(self.transformer.config.in_channels > nets.Z_DIM)

    @torch.no_grad()
    def words(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts as short contexts and the bias that stands for their padding to 512."""
        tokens = self.tokenizer(list(prompts), padding=True, return_tensors="pt")
        mask = tokens.attention_mask
        embeds = self.text_encoder(tokens.input_ids, mask).last_hidden_state * mask[..., None]
        embeds = torch.cat([embeds, embeds.new_zeros(len(prompts), 1, embeds.shape[-1])], 1)
        lengths = mask.sum(1)
        return embeds, self.context.bias_for(lengths, (MAX_SEQUENCE_LENGTH - lengths).float(), embeds.shape[1])

    @torch.no_grad()
    def condition(self, images: np.ndarray) -> Tensor:
        """What the image-to-video transformer sees of first frames (N, H, W, 3), uint8."""
        first = self.vae.encode(to_video(images[:, None]).to(self.device)).latent_dist.mode().cpu()
        return first_frame_condition(nets.normalised(first, self.vae), self.grey)

    def noise(self, seeds: Sequence[int]) -> Tensor:
        """The noise that a pipeline draws for each seed."""
        return torch.cat([torch.randn((1, *LATENT_SHAPE), generator=torch.Generator().manual_seed(s)) for s in seeds])

    @torch.no_grad()
    def walk(
        self,
        start: Tensor,
        sigmas: Tensor,
        prompts: Sequence[str],
        *,
        guidance: float | Sequence[float],
        condition: Tensor | None = None,
        unipc: bool = False,
        before: tuple[int, Sequence[str]] | None = None,
        batch: int = 20,
    ) -> list[Tensor]:
        """Steps down `sigmas` (the last is where it ends); the state after each step, `start` excluded.

        Euler, or UniPC with a fresh history; guidance may differ from step to step. `before` are other prompts, told up
        to that step: as a run that is resumed with its solver's history kept.
        """
        scales = [guidance] * (len(sigmas) - 1) if isinstance(guidance, (int, float)) else list(guidance)
        parts = []
        for at in range(0, len(start), batch):
            rows = slice(at, at + batch)
            x, states = start[rows], []
            cond = None if condition is None else condition[rows]
            said = self.words(prompts[rows])
            told = said if before is None else self.words(before[1][rows])
            unsaid = self.words([""] * len(x))
            solver = unipc_solver(sigmas) if unipc else None
            for step, ((sigma, after), scale) in enumerate(zip(pairwise(sigmas.tolist()), scales, strict=True)):
                now = told if before is not None and step <= before[0] else said
                v = self.velocity(x, sigma, now, cond)
                if scale != 1.0:
                    base = self.velocity(x, sigma, unsaid, cond)
                    v = base + scale * (v - base)
                if solver is None:
                    x = x + (after - sigma) * v
                else:
                    x = solver.step(v, solver.timesteps[step], x, return_dict=False)[0]
                states.append(x)
            parts.append(states)
        return [torch.cat(step) for step in zip(*parts, strict=True)]

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Frames (N, T, H, W, 3), float32 in 0..1."""
        video = [self.vae.decode(nets.raw(part, self.vae).to(self.device)).sample.cpu() for part in latents.split(20)]
        return to_frames(torch.cat(video))

    def velocity(self, x: Tensor, sigma: float, words: tuple[Tensor, Tensor], condition: Tensor | None) -> Tensor:
        """What the net says at a noise level."""
        embeds, bias = words
        self.context.bias = bias.to(self.device)
        time = torch.full((len(x),), sigma * 1000, device=self.device)
        hidden = x if condition is None else torch.cat([x, condition], 1)
        return self.transformer(hidden.to(self.device), time, embeds.to(self.device), return_dict=False)[0].cpu()
