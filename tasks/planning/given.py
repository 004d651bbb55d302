"""What rows give: identities with their pictures, and what each row is told, read once however many rows name it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

from prior_engine.errors import EngineError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning, Lora
from prior_engine.requests.identity import Identity
from prior_engine.requests.pictures import Picture
from prior_engine.requests.prompt_length import PromptLength
from tasks.planning.advice import Advice, guidance_of, second_guidance
from tasks.planning.distilled import guidance_refusal
from tasks.settings import Settings
from tasks.sheets.local_file import open_checked
from tasks.sheets.pictures import PictureError, open_picture, resolve_picture
from tasks.sheets.rows import Row


@dataclass
class Given:
    """Turns rows into the engine's values; what is wrong with them is gathered in `problems`."""

    settings: Settings
    info: ModelInfo
    root: str
    worn: tuple[Lora, ...] = ()
    measured: Advice | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _pictures: dict[str, Picture | None] = field(default_factory=dict)
    _loras: dict[str, Lora] = field(default_factory=dict)
    _identities: dict[tuple[Any, ...], Identity | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lengths = PromptLength(self.info, self.settings.model.max_sequence_length)
        if self.lengths.unknown:
            self.notes.append(f"prompts may be cut off after {self.lengths.limit} tokens: {self.lengths.unknown}")
        self._check_length("setting negative_prompt", self.settings.negative)

    def identity_of(self, row: Row) -> Identity | None:
        """What stays fixed over the rows of an identity, or None, with the problem told."""
        height, width, frames = self.settings.model.size
        signature = (row.base_prompt, row.seed, row.image, row.last_image, row.width, row.height, row.frames)
        if signature in self._identities:
            return self._identities[signature]
        identity: Identity | None = None
        if row.base_prompt != row.prompt:
            self._check_length(f"{row.place}, column base_prompt", row.base_prompt)
        image, last = (self._picture(row, column) for column in ("image", "last_image"))
        if (row.image is None) == (image is None) and (row.last_image is None) == (last is None):
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    identity = Identity(
                        prompt=row.base_prompt,
                        negative_prompt=self.settings.negative,
                        seed=self.settings.seed if row.seed is None else row.seed,
                        height=row.height or height,
                        width=row.width or width,
                        frames=row.frames or frames,
                        image=image,
                        last_image=last,
                    ).fitted(self.info)
                self.notes += [f"{row.place}: {note.message}" for note in caught]
            except EngineError as error:
                self.problems.append(f"{row.place}: {error}")
        self._identities[signature] = identity
        return identity

    def _picture(self, row: Row, column: str) -> Picture | None:
        named = getattr(row, column)
        if named is None:
            return None
        if named not in self._pictures:
            picture = None
            try:
                location = resolve_picture(named, self.root, self.settings.sheet)
                picture = open_picture(location, self.settings.sheet.max_image_pixels)
            except PictureError as error:
                self.problems.append(f"{row.place}, column {column}: {error}")
            self._pictures[named] = picture
        return self._pictures[named]

    def conditioning_of(self, row: Row, *, full: bool) -> Conditioning | None:
        """What a row is told, as a variant or in a full run; or None, with the problem told."""
        settings, model = self.settings, self.settings.model
        usual = guidance_of(settings, self.measured, full=full)
        guidance = usual if row.guidance is None else row.guidance
        if (refused := guidance_refusal(settings, row.guidance)) is not None:
            self.problems.append(f"{row.place}, column guidance: {refused}")
        for column in ("prompt", "negative_prompt"):
            self._check_length(f"{row.place}, column {column}", getattr(row, column))
        loras = []
        for path, weight in row.lora:
            try:
                loras.append(replace(self._lora(path), weight=weight))
            except (PictureError, EngineError, OSError) as error:
                self.problems.append(f"{row.place}, column lora: {error}")
                return None
        return Conditioning(
            prompt=row.prompt,
            negative_prompt=settings.negative if row.negative_prompt is None else row.negative_prompt,
            guidance=guidance,
            guidance_2=second_guidance(settings, guidance),
            loras=(*self.worn, *loras),
            max_sequence_length=model.max_sequence_length,
        )

    def _lora(self, named: str) -> Lora:
        location = resolve_picture(named, self.root, self.settings.sheet)
        if "://" in location:
            raise PictureError(f"{named!r} is not on this machine; fetch it first, and give its path here")
        if location not in self._loras:
            with open_checked(location) as file:
                self._loras[location] = Lora.read(file, location)
        return self._loras[location]

    def _check_length(self, place: str, text: str | None) -> None:
        tokens = self.lengths.over(text or "")
        if tokens is not None:
            self.problems.append(
                f"{place}: has {tokens} tokens and the text encoder takes {self.lengths.limit}, the rest would be cut off; shorten it"
            )
