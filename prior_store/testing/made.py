"""Small objects for tests, and the fixtures that the promises stand on."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from prior_store.objects.claims import Claim
from prior_store.objects.commit import Commit
from prior_store.objects.lease import TTL_S
from prior_store.recipe import recipe_key
from prior_store.store import Store


def recipe_of(number: int, **fields: Any) -> dict[str, Any]:
    """Invent a recipe."""
    return {"seed": number, "prompt": f"cat {number}", "sigmas": [1.0, 0.5, 0.0], **fields}


def latents_of(number: int) -> torch.Tensor:
    """Invent latents: other numbers, other bits."""
    return torch.arange(24, dtype=torch.float32).reshape(2, 3, 4).add(number).div(7).to(torch.bfloat16)


def put_object(
    store: Store,
    number: int,
    kind: str = "priors",
    row: Mapping[str, Any] | None = None,
    ttl_s: float = TTL_S,
    **options: Any,
) -> Commit:
    """Make one small object whole, as a task would."""
    recipe = recipe_of(number)
    with store.claim(kind, recipe_key(recipe), ttl_s=ttl_s) as claim:
        if claim.commit is not None:
            return claim.commit
        fill(claim, number)
        return claim.publish(recipe=recipe, row={"prompt": recipe["prompt"], **(row or {})}, **options)


def fill(claim: Claim, number: int, steps: int = 2) -> None:
    """Put the files of one small object."""
    for step in range(steps):
        claim.put_tensors(f"step_{step:04d}.safetensors", {"latents": latents_of(number + step)}, {"step": str(step)})
    claim.put_file("video.mp4", f"video {number}".encode())


class Promises:
    """The fixtures that promises need. Fill `url` with the address of an empty place."""

    @pytest.fixture
    def url(self) -> str:
        """Give an empty place."""
        raise NotImplementedError

    @pytest.fixture
    def options(self) -> dict[str, object]:
        """Give the storage options, credentials for instance."""
        return {}

    @pytest.fixture
    def store(self, url: str, options: dict[str, object]) -> Store:
        """Open a new store."""
        return Store.open(url, storage_options=options)
