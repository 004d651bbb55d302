"""How long a tail may be."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from prior_engine.requests.steps import MOST_STEPS

# The engine's own `Tail`, in words that messages can be made from.
StepsOfTail = Literal["exact"] | Annotated[int, Field(ge=1, le=MOST_STEPS)]
