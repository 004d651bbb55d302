"""Conditions that are computed once and reused: text embeddings, picture embeddings, encoded pictures and videos."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from prior_engine.errors import SnapshotError

if TYPE_CHECKING:
    import torch

Recipe = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedding:
    """What the text encoder made of one conditioning: tensors for the prompt and for the negative prompt."""

    prompt: "Mapping[str, torch.Tensor]"
    negative: "Mapping[str, torch.Tensor]" = field(default_factory=dict)
    recipe: Recipe = field(default_factory=dict)

    def tensors(self) -> "dict[str, torch.Tensor]":
        """Named tensors without the zero rows that only pad a prompt to the encoder's full length."""
        named = {f"prompt.{name}": tensor for name, tensor in self.prompt.items()}
        named.update({f"negative.{name}": tensor for name, tensor in self.negative.items()})
        return {name: _without_padding(tensor) for name, tensor in named.items()}

    def metadata(self) -> dict[str, str]:
        lengths = {f"prompt.{name}": tensor.shape[1] for name, tensor in self.prompt.items() if tensor.ndim > 1}
        lengths.update(
            {f"negative.{name}": tensor.shape[1] for name, tensor in self.negative.items() if tensor.ndim > 1}
        )
        return {"format": "headstart.embedding.1", "lengths": json.dumps(lengths), "recipe": json.dumps(self.recipe)}

    @classmethod
    def from_parts(cls, tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> Self:
        if metadata.get("format") != "headstart.embedding.1":
            raise SnapshotError(f"the embedding has format {metadata.get('format')!r}; this version reads another one")
        lengths = json.loads(metadata["lengths"])
        whole = {name: _with_padding(tensor, lengths.get(name)) for name, tensor in tensors.items()}
        return cls(
            prompt={name.removeprefix("prompt."): t for name, t in whole.items() if name.startswith("prompt.")},
            negative={name.removeprefix("negative."): t for name, t in whole.items() if name.startswith("negative.")},
            recipe=json.loads(metadata["recipe"]),
        )


def _without_padding(tensor: "torch.Tensor") -> "torch.Tensor":
    tensor = tensor.detach().to("cpu")
    if tensor.ndim < 2:
        return tensor.contiguous()
    used = tensor.ne(0).flatten(2).any(-1).any(0) if tensor.ndim > 2 else tensor.ne(0).any(0)
    length = int(used.nonzero().max()) + 1 if bool(used.any()) else 1
    return tensor[:, :length].contiguous()


def _with_padding(tensor: "torch.Tensor", length: int | None) -> "torch.Tensor":
    if length is None or tensor.shape[1] == length:
        return tensor
    whole = tensor.new_zeros(tensor.shape[0], length, *tensor.shape[2:])
    whole[:, : tensor.shape[1]] = tensor
    return whole


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conditions:
    """What the picture and video encoders made of one identity, by the hash of what they saw."""

    entries: "Mapping[str, torch.Tensor]" = field(default_factory=dict)

    def tensors(self) -> "dict[str, torch.Tensor]":
        return {name: tensor.detach().to("cpu").contiguous() for name, tensor in self.entries.items()}

    def metadata(self) -> dict[str, str]:
        return {"format": "headstart.conditions.1", "entries": json.dumps(sorted(self.entries))}

    @classmethod
    def from_parts(cls, tensors: "Mapping[str, torch.Tensor]", metadata: Mapping[str, str]) -> Self:
        if metadata.get("format") != "headstart.conditions.1":
            raise SnapshotError(
                f"the conditions have format {metadata.get('format')!r}; this version reads another one"
            )
        return cls(entries=dict(tensors))
