"""What a run is told: prompts, guidance, LoRA weights. This is what a variant may change."""

import hashlib
import html
import re
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal

from prior_engine.errors import RequestError
from prior_engine.models.info import ModelInfo
from prior_engine.models.weights.lora_file import check_lora


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """Low-rank weights to be put on the model for one run, known by the hash of their file."""

    path: str
    sha256: str
    weight: float = 1.0
    expert: Literal["both", "high", "low"] = "both"

    @classmethod
    def open(cls, path: str | Path, weight: float = 1.0, expert: Literal["both", "high", "low"] = "both") -> "Lora":
        """Take the weights from a safetensors file; `expert` says which half of a two-expert model gets them."""
        if expert not in ("both", "high", "low"):
            raise RequestError(f"expert={expert!r} is not known; choose one of ['both', 'high', 'low']")
        try:
            with Path(path).open("rb") as file:
                return replace(cls.read(file, str(path)), weight=weight, expert=expert)
        except OSError as problem:
            raise RequestError(f"the LoRA file {str(path)!r} cannot be read: {problem}") from None

    @classmethod
    def read(cls, file: BufferedReader, path: str) -> "Lora":
        """Take the weights from a file that is open; it is opened anew, at `path`, when they are put on a model."""
        check_lora(file, path)
        return cls(path=path, sha256=hashlib.file_digest(file, "sha256").hexdigest())

    def describe(self) -> dict[str, Any]:
        return {"sha256": self.sha256, "weight": self.weight, "expert": self.expert}


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditioning:
    """What a run is told: prompts, guidance, extra weights. This is what a variant may change."""

    prompt: str
    negative_prompt: str = ""
    guidance: float | None = None
    guidance_2: float | None = None
    loras: tuple[Lora, ...] = ()
    max_sequence_length: int | None = None

    def __post_init__(self) -> None:
        if self.max_sequence_length is not None and self.max_sequence_length < 1:
            raise RequestError(f"max_sequence_length={self.max_sequence_length!r} must be at least 1")

    @property
    def texts(self) -> tuple[str, str, int | None]:
        """What the text encoder sees of it; conditionings with equal texts share one embedding."""
        return self.prompt, self.negative_prompt, self.max_sequence_length

    def describe(self) -> dict[str, Any]:
        """The conditioning for recipes."""
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "guidance": self.guidance,
            "guidance_2": self.guidance_2,
            "loras": [lora.describe() for lora in self.loras],
            "max_sequence_length": self.max_sequence_length,
        }


def clean_prompt(text: str) -> str:
    """The prompt as Wan's text encoder gets to see it: mended, unescaped, with single spaces.

    ftfy changes prompts (curly quotes, ligatures), so it is required, never optional.
    """
    import ftfy

    mended = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", mended).strip()


def embedding_recipe(info: ModelInfo, told: Conditioning) -> dict[str, Any]:
    """All that decides an embedding: a key of the prompt alone would mix encoders, lengths and dtypes."""
    clean = clean_prompt if info.family.cleans_prompt else str
    return {
        "text_encoder": info.text_fingerprint,
        "family": info.family.name,
        "dtype": info.dtype,
        "quantization": info.text_quantization,
        "max_sequence_length": told.max_sequence_length or info.max_sequence_length,
        "prompt": clean(told.prompt),
        "negative_prompt": clean(told.negative_prompt) if info.family.negative else None,
    }
