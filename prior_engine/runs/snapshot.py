"""All that is needed to go on after a step exactly: latents, solver state, random state. A value, never a pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from prior_engine.errors import SnapshotError

FORMAT = "headstart.snapshot.1"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Snapshot:
    """What stands after step `step` of `steps`; `at` is the solver's own index of the step that comes next."""

    step: int
    steps: int
    at: int
    sigma: float
    timestep: float
    latents: torch.Tensor
    shift: float | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    state_tensors: Mapping[str, torch.Tensor] = field(default_factory=dict)
    generators: tuple[torch.Tensor, ...] = ()
    sigmas: tuple[float, ...] = ()
    timesteps: tuple[float, ...] = ()
    pins: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[Mapping[str, Any], ...] = ()
    batch_size: int = 1

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to run: these latents are to be decoded."""
        return self.step == self.steps - 1

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor under its name, on the host, contiguous, in the dtype it was made in."""
        named = {"latents": self.latents, **self.state_tensors}
        named.update({f"generator.{index}": state for index, state in enumerate(self.generators)})
        return {name: tensor.detach().to("cpu").contiguous() for name, tensor in named.items()}

    def metadata(self) -> dict[str, str]:
        """Everything else, as the strings that a safetensors header holds."""
        plain = {
            "step": self.step,
            "steps": self.steps,
            "at": self.at,
            "sigma": self.sigma,
            "timestep": self.timestep,
            "shift": self.shift,
            "state": dict(self.state),
            "generators": len(self.generators),
            "sigmas": list(self.sigmas),
            "timesteps": list(self.timesteps),
            "pins": dict(self.pins),
            "told": [dict(one) for one in self.told],
            "batch_size": self.batch_size,
        }
        return {"format": FORMAT} | {name: json.dumps(value, allow_nan=False) for name, value in plain.items()}

    @classmethod
    def from_parts(cls, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> Self:
        """The snapshot that `tensors()` and `metadata()` came from."""
        if metadata.get("format") != FORMAT:
            raise SnapshotError(f"the snapshot has format {metadata.get('format')!r}; this version reads {FORMAT!r}")
        try:
            plain: dict[str, Any] = {name: json.loads(value) for name, value in metadata.items() if name != "format"}
            count = plain.pop("generators")
            plain |= {name: tuple(plain[name]) for name in ("sigmas", "timesteps", "told")}
            return cls(
                **plain,
                latents=tensors["latents"],
                state_tensors={name: tensor for name, tensor in tensors.items() if name.startswith("scheduler.")},
                generators=tuple(tensors[f"generator.{index}"] for index in range(count)),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise SnapshotError(f"the snapshot is not whole: {problem!r}; record the prior again") from None
