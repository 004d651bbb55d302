"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """Frozen, and strict about its names."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
