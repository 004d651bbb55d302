"""What a model wears in every run: its LoRAs, read before anything is planned."""

from __future__ import annotations

from pathlib import Path

from prior_engine.errors import EngineError
from prior_engine.models.hub import files_of, names_files
from prior_engine.requests.conditioning import Lora
from tasks.errors import PlanError
from tasks.planning.models.shelf import on_shelf
from tasks.settings import Settings


def worn(settings: Settings) -> tuple[Lora, ...]:
    """The LoRAs of the model's settings, from this machine or a hub; all that cannot be worn are told at once."""
    found, problems = [], []
    for named in settings.model.loras:
        if "://" in named.path:
            problems.append(f"{named.path!r} is not on this machine; fetch it first, and give its path here")
            continue
        try:
            here = on_shelf(settings.model, named.path)
            path = Path(here).expanduser().resolve()
            if not path.exists() and names_files(here):
                path, *more = files_of(here, offline=settings.model.offline)
                if more:
                    problems.append(f"{named.path!r} names {1 + len(more)} files, and a LoRA is one; name it whole")
                    continue
            found.append(Lora.open(path, weight=named.weight, expert=named.expert))
        except EngineError as error:
            problems.append(str(error))
    if problems:
        raise PlanError("\n".join(f"setting model.loras: {problem}" for problem in problems))
    return tuple(found)
