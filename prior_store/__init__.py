"""Keeps priors, variants and embeddings, and lists them: whole or absent, on any fsspec URL."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prior_store.objects.claims import Claim
    from prior_store.objects.commit import Commit, FileInfo
    from prior_store.recipe import canonical_json, recipe_key
    from prior_store.store import Store

_HOMES = {
    "Claim": "objects.claims",
    "Commit": "objects.commit",
    "FileInfo": "objects.commit",
    "Store": "store",
    "canonical_json": "recipe",
    "recipe_key": "recipe",
}
__all__ = ["Claim", "Commit", "FileInfo", "Store", "canonical_json", "recipe_key"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import prior_store` costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {sorted(_HOMES)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
