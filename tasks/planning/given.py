"""What rows give: identities with their pictures, and what each row is told, read once however many rows name it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

from prior_engine.errors import EngineError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning, Lora
from prior_engine.requests.identity import INPUTS, Identity, check_inputs, size_made
from prior_engine.requests.pictures import Picture
from prior_engine.requests.prompt_length import PromptLength
from tasks.planning.advice import Advice, guidance_of, second_guidance
from tasks.planning.distilled import guidance_refusal
from tasks.settings import Settings
from tasks.sheets.local_file import open_checked
from tasks.sheets.media.clips import Clips, Size, Video
from tasks.sheets.media.pictures import PictureError, open_picture, resolve_picture
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
    _videos: dict[tuple[Any, ...], Video | None] = field(default_factory=dict)
    _loras: dict[str, Lora] = field(default_factory=dict)
    _identities: dict[tuple[Any, ...], Identity | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clips = Clips(self.settings.sheet, self.root)
        self.lengths = PromptLength(self.info, self.settings.model.max_sequence_length)
        if self.lengths.unknown:
            self.notes.append(f"prompts may be cut off after {self.lengths.limit} tokens: {self.lengths.unknown}")
        self._check_length("setting negative_prompt", self.settings.negative)

    def identity_of(self, row: Row) -> Identity | None:
        """What stays fixed over the rows of an identity, or None, with the problem told."""
        height, width, frames = self.settings.model.size
        named = tuple(getattr(row, name) for name in INPUTS)
        signature = (row.base_prompt, row.seed, *named, row.width, row.height, row.frames)
        if signature in self._identities:
            return self._identities[signature]
        identity: Identity | None = None
        if row.base_prompt != row.prompt:
            self._check_length(f"{row.place}, column base_prompt", row.base_prompt)
        asked = row.height or height, row.width or width, row.frames or frames
        inputs = self._inputs(row, Size(*size_made(self.info, *asked)))
        if inputs is not None:
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    identity = Identity(
                        prompt=row.base_prompt,
                        negative_prompt=self.settings.negative,
                        seed=self.settings.seed if row.seed is None else row.seed,
                        height=asked[0],
                        width=asked[1],
                        frames=asked[2],
                        **inputs,
                    ).fitted(self.info)
                self.notes += [f"{row.place}: {note.message}" for note in caught]
            except EngineError as error:
                self.problems.append(f"{row.place}: {error}")
        self._identities[signature] = identity
        return identity

    def _inputs(self, row: Row, size: Size) -> dict[str, Any] | None:
        """Pictures and videos of a row's identity by their columns, or None, with all that is wrong told."""
        named = {column for column in INPUTS if getattr(row, column) is not None}
        before = len(self.problems)
        try:
            check_inputs(self.info, named)
        except EngineError as error:
            self.problems.append(f"{row.place}: {error}")
        # No video is decoded for a model that takes none.
        named &= self.info.family.takes
        found: dict[str, Any] = {
            column: self._picture(row, column, getattr(row, column))
            for column in ("image", "last_image")
            if column in named
        }
        if "references" in named:
            found["references"] = tuple(self._picture(row, "references", one) for one in row.references or ())
        if "control_scale" in named:
            found["control_scale"] = row.control_scale
        videos: dict[str, Video | None] = {}
        for column in ("video", "mask"):
            if column in named:
                videos[column] = self._video(row, column, size, videos.get("video"))
        found |= {column: video and video.clip for column, video in videos.items()}
        lacking = any(None in (part if isinstance(part, tuple) else (part,)) for part in found.values())
        return None if lacking or len(self.problems) > before else found

    def _video(self, row: Row, column: str, size: Size, video: Video | None) -> Video | None:
        named = getattr(row, column)
        known = (column, named, size, video and video.own)
        if known not in self._videos:
            self._videos[known] = None
            try:
                read = self._clips.video(named, size) if column == "video" else self._clips.mask(named, size, video)
                self._videos[known] = read
            except PictureError as error:
                self.problems.append(f"{row.place}, column {column}: {error}")
        return self._videos[known]

    def _picture(self, row: Row, column: str, named: str) -> Picture | None:
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
