"""Picture and video encoders that are asked once: a memory before the pipeline's own."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from prior_engine.requests.embeddings import Conditions

# Encoded pictures are megabytes each: enough are kept for the identity at hand and its neighbours.
_KEPT = 16


class Memo:
    """Stands before an encoder and answers from memory what it has seen, by content; counts what it could not."""

    def __init__(self) -> None:
        self.entries: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.touched: set[str] = set()
        self.misses = 0

    def add(self, conditions: Conditions) -> None:
        self.entries.update(conditions.entries)

    def through(self, name: str, seen: Any, device: torch.device, encode: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The encoding of `seen`, made by `encode` when it is new."""
        key = f"{name}.{_content(seen)}"
        self.touched.add(key)
        if key not in self.entries:
            self.misses += 1
            self.entries[key] = encode().detach().to("cpu")
        self.entries.move_to_end(key)
        idle = [old for old in self.entries if old not in self.touched]
        for old in idle[: max(len(self.entries) - _KEPT, 0)]:
            del self.entries[old]
        return self.entries[key].to(device)

    def taken(self, keys: set[str]) -> Conditions:
        """The entries under `keys`, as a value that can be kept."""
        return Conditions(entries={key: self.entries[key] for key in keys})

    def watch(self) -> set[str]:
        """Start to note which entries a run uses."""
        self.touched = set()
        return self.touched


def _content(seen: Any) -> str:
    digest = hashlib.sha256()
    for part in seen if isinstance(seen, (list, tuple)) else [seen]:
        if isinstance(part, torch.Tensor):
            plain = part.detach().to("cpu").contiguous()
            digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().data)
        else:  # a PIL picture
            digest.update(f"{part.mode}{part.size}".encode() + part.tobytes())
    return digest.hexdigest()


def remember_encoders(pipe: Any, memo: Memo, need: Callable[[str], None]) -> None:
    """Let the pipeline's own calls of its picture and video encoders go through `memo`.

    `image_embeds=` and its like cannot be used: the pipelines refuse them beside a picture, and need the picture too.
    """
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
    from diffusers.models.modeling_outputs import AutoencoderKLOutput

    vae = pipe.vae
    plain_encode = vae.encode

    def encode(x: torch.Tensor, return_dict: bool = True) -> Any:  # noqa: FBT001, FBT002 - diffusers' own signature
        def anew() -> torch.Tensor:
            need("vae")
            parameters: torch.Tensor = plain_encode(x).latent_dist.parameters
            return parameters

        parameters = memo.through("vae", x, x.device, anew)
        posterior = DiagonalGaussianDistribution(parameters)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    vae.encode = encode
    if hasattr(pipe, "encode_image"):
        plain_image = pipe.encode_image

        def encode_image(image: Any, device: torch.device | None = None) -> torch.Tensor:
            where = device or pipe._execution_device  # noqa: SLF001 - what the pipeline itself would do

            def anew() -> torch.Tensor:
                need("image")
                embeds: torch.Tensor = plain_image(image, device)
                return embeds

            return memo.through("image", image, where, anew)

        pipe.encode_image = encode_image
