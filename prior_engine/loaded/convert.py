"""A pickle of weights turned into a safetensors file, once, by the loader that can run nothing."""

from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.trusted import PICKLES

# Where trainers keep the weights among other things.
_INSIDE = ("state_dict", "model_state_dict", "model", "module", "generator_ema", "generator")


def convert(file: Path, out: Path | None = None) -> tuple[Path, int, list[str]]:
    """Write the tensors of `file` beside it (or at `out`); tell where, how many, and what else was in it."""
    import torch
    from safetensors.torch import save_file

    target = out or file.with_suffix(".safetensors")
    if file.suffix not in PICKLES:
        raise ModelSourceError(f"{str(file)!r} is no pickle of weights by its name; known are {', '.join(PICKLES)}")
    if target.exists():
        raise ModelSourceError(f"{str(target)!r} is there already; remove it first, or name another with --out")
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise ModelSourceError(f"{str(file)!r} cannot be read: {problem}") from None
    except Exception as problem:  # noqa: BLE001 - a pickle fails in many ways, and each is a refusal
        said = str(problem).strip().partition("\n")[0]
        raise ModelSourceError(
            f"{str(file)!r} holds more than tensors, or is damaged, and was not opened further ({said}); "
            "get the model with safetensors files"
        ) from None
    held = _weights_in(held)
    # Two names may share memory in a pickle, which safetensors does not keep.
    tensors = {name: value.clone().contiguous() for name, value in held.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise ModelSourceError(f"{str(file)!r} holds no tensors by name; nothing was written")
    part = target.with_name(f".{target.name}.part")
    try:
        save_file(tensors, part)
        part.rename(target)
    finally:
        part.unlink(missing_ok=True)
    return target, len(tensors), sorted(str(name) for name in set(held) - set(tensors))


def _weights_in(held: Any) -> dict[str, Any]:
    while isinstance(held, dict):
        inner = next((held[name] for name in _INSIDE if isinstance(held.get(name), dict)), None)
        if inner is None:
            return {str(name): value for name, value in held.items()}
        held = inner
    return {}
