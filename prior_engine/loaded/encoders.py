"""Encoders that are asked once: a memory before the pipeline's own text, picture and video encoders."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from prior_engine.loaded import calls as rules
from prior_engine.loaded.embeddings import Conditions, Embedding
from prior_engine.requests.request import Conditioning, embedding_recipe

if TYPE_CHECKING:
    from prior_engine.loaded.components import Components

# Encoded pictures and prompts are megabytes each: enough are kept for the identity at hand and its neighbours.
_PICTURES, _TEXTS = 16, 64


class Texts:
    """Texts through the pipeline's own encoder, each distinct one once."""

    def __init__(self, components: "Components") -> None:
        self._components = components
        self._known: OrderedDict[tuple[str, int], dict[str, torch.Tensor]] = OrderedDict()

    def embeddings(self, conditionings: Sequence[Conditioning]) -> dict[tuple[str, str, int | None], Embedding]:
        return {told.texts: self.embedding(told) for told in conditionings}

    def embedding(self, told: Conditioning) -> Embedding:
        """The embedding of one conditioning; its text is encoded alone, so that companions change nothing."""
        info = self._components.info
        length = told.max_sequence_length or info.max_sequence_length
        return Embedding(
            prompt=self._encoded(told.prompt, length),
            negative=self._encoded(told.negative_prompt, length) if info.family.negative else {},
            recipe=embedding_recipe(info, told),
        )

    def _encoded(self, text: str, length: int) -> dict[str, torch.Tensor]:
        key = text, length
        if key not in self._known:
            self._components.need_text()
            self._known[key] = rules.encode_text(self._components.pipe, self._components.info, text, length)
        self._known.move_to_end(key)
        while len(self._known) > _TEXTS:
            self._known.popitem(last=False)
        return self._known[key]


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
        for old in idle[: max(len(self.entries) - _PICTURES, 0)]:
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
