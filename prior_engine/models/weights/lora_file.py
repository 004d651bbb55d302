"""Is a file LoRA weights? Its header says so; the weights themselves are not read."""

from typing import BinaryIO

from prior_engine.errors import RequestError
from prior_engine.models.weights.header import read_header


def check_lora(file: BinaryIO, path: str) -> None:
    """Refuse what is no whole safetensors file, or holds no weights of a LoRA; `file` is left at its start."""
    try:
        header = read_header(file)
    except ValueError as problem:
        raise RequestError(f"the LoRA file {path!r} cannot be read: {problem}") from None
    if not any("lora" in name.lower() for name in header):
        held = f"names like {min(header)!r}" if header else "nothing"
        raise RequestError(f"the file {path!r} holds no LoRA weights, whose names have 'lora' in them; it holds {held}")
