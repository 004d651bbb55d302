"""LoRA weights of any of the usual makers, put on for the runs that ask for them and taken off again."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.models.info import EXPERTS
from prior_engine.requests.conditioning import Lora

if TYPE_CHECKING:
    import torch


class Adapters:
    """Which LoRA weights are on the model now."""

    def __init__(self) -> None:
        self._on: tuple[Lora, ...] = ()
        self._experts: tuple[int, ...] = ()

    def wear(self, pipe: Any, loras: tuple[Lora, ...]) -> None:
        """Have exactly `loras` on the model; without any, its bits are those of the bare model."""
        # An expert that was loaded or freed since is another module, which wears nothing yet.
        experts = tuple(id(getattr(pipe, name, None)) for name in EXPERTS)
        if loras == self._on and (experts == self._experts or not loras):
            return
        if self._on:
            pipe.unload_lora_weights()
            self._on = ()
        if not loras:
            return
        if not hasattr(pipe, "load_lora_weights"):
            raise UnsupportedError(f"{type(pipe).__name__} takes no LoRA weights; leave them out")
        try:
            for index, lora in enumerate(loras):
                _put_on(pipe, lora, f"lora_{index}")
            pipe.set_adapters([f"lora_{index}" for index in range(len(loras))], [lora.weight for lora in loras])
        except BaseException:
            pipe.unload_lora_weights()
            raise
        self._on, self._experts = loras, experts


def _put_on(pipe: Any, lora: Lora, name: str) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = Path(lora.path).read_bytes()
        if hashlib.sha256(data).hexdigest() != lora.sha256:
            raise RequestError(
                f"the LoRA file {lora.path!r} is no longer the one that was planned with; put that one back, or plan anew"
            )
        weights = renamed(load(data))
    except (OSError, SafetensorError) as problem:
        raise RequestError(f"the LoRA file {lora.path!r} cannot be read: {problem}") from None
    experts = {"high": [False], "low": [True], "both": [False, True]}[lora.expert]
    if getattr(pipe, "transformer_2", None) is None:
        experts = [False]
    elif getattr(pipe, "transformer", None) is None:
        experts = [True]
    for second in experts:
        more = {"load_into_transformer_2": True} if second else {}
        try:
            with _first_expert_present(pipe), warnings.catch_warnings():
                # More than one adapter is what was asked for; peft warns of it all the same.
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                # Nothing is ever merged here.
                warnings.filterwarnings("ignore", message="TorchaoLoraLinear was instantiated")
                pipe.load_lora_weights(dict(weights), adapter_name=name, **more)
        except (KeyError, ValueError, IndexError) as problem:
            raise RequestError(f"the LoRA file {lora.path!r} is not understood by diffusers: {problem!r}") from problem
    # Weights whose names match nothing are dropped with no more than a warning; that is found out here.
    if not any(name in names for names in pipe.get_list_adapters().values()):
        raise RequestError(
            f"no weight of the LoRA file {lora.path!r} fits this model; it holds names like {min(weights)!r}"
        )


@contextlib.contextmanager
def _first_expert_present(pipe: Any) -> Iterator[None]:
    """diffusers looks at the first expert even when it loads into the second, which may be here alone."""
    if pipe.transformer is not None:
        yield
        return
    pipe.register_modules(transformer=pipe.transformer_2)
    try:
        yield
    finally:
        pipe.register_modules(transformer=None)


def renamed(weights: "Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """DiffSynth's names in the form that diffusers understands; all other names as they are."""
    if not any(name.endswith((".lora_A.default.weight", ".lora_B.default.weight")) for name in weights):
        return dict(weights)
    prefix = "diffusion_model."
    return {
        prefix + name.removeprefix(prefix).replace(".default.weight", ".weight"): tensor
        for name, tensor in weights.items()
    }
