"""One optimiser for small nets on few cores: orthogonal momentum for matrices, Adam for everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class MatrixAdam:
    """Muon on hidden matrices (conv kernels count as matrices), Adam on first and last layers, vectors and tables.

    Its state is a flat dict of named tensors, so that a checkpoint is a safetensors file.
    """

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        *,
        matrix_lr: float,
        adam_lr: float,
        plain: tuple[str, ...] = (),
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        self.params = {name: p for name, p in named if p.requires_grad}
        self.matrices = {n for n, p in self.params.items() if p.dim() >= 2 and not any(part in n for part in plain)}
        self.matrix_lr, self.adam_lr = matrix_lr, adam_lr
        self.momentum, self.betas = momentum, betas
        self.count = 0
        self.first = {n: torch.zeros_like(p) for n, p in self.params.items()}
        self.second = {n: torch.zeros_like(p) for n, p in self.params.items() if n not in self.matrices}

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """One update with both rates times `scale`; clears the gradients."""
        self.count += 1
        b1, b2 = self.betas
        for name, p in self.params.items():
            if p.grad is None:
                continue
            first = self.first[name]
            if name in self.matrices:
                first.lerp_(p.grad, 1 - self.momentum)
                update = orthogonal(p.grad.lerp(first, self.momentum).flatten(1)).view_as(p)
                tall = max(1.0, p.shape[0] / p[0].numel()) ** 0.5
                p.add_(update, alpha=-self.matrix_lr * scale * tall)
            else:
                second = self.second[name]
                first.lerp_(p.grad, 1 - b1)
                second.lerp_(p.grad.square(), 1 - b2)
                size = (second / (1 - b2**self.count)).sqrt_().add_(1e-8)
                p.addcdiv_(first, size, value=-self.adam_lr * scale / (1 - b1**self.count))
            p.grad = None

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on."""
        return {
            "count": torch.tensor(self.count),
            **{f"first.{n}": t for n, t in self.first.items()},
            **{f"second.{n}": t for n, t in self.second.items()},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`."""
        self.count = int(state["count"])
        for kind, held in (("first", self.first), ("second", self.second)):
            for name, tensor in held.items():
                tensor.copy_(state[f"{kind}.{name}"])


def orthogonal(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest half-orthogonal matrix, about: Newton-Schulz with the usual quintic."""
    x = (matrix / (matrix.norm() + 1e-7)).bfloat16()
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(rounds):
        gram = x @ x.T
        x = 3.4445 * x + (2.0315 * gram @ gram - 4.7750 * gram) @ x
    return (x.T if flip else x).to(matrix.dtype)


def decay(step: int, total: int, *, warmup: int = 60) -> float:
    """Warm up, hold for a third, then go down to nothing in a straight line."""
    return min(1.0, (step + 1) / warmup, 1.5 * (1 - step / total) + 0.002)
