"""What a run made, and what it took."""

from dataclasses import dataclass, replace

from prior_engine.requests.schedule import Schedule
from prior_engine.runs.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class VariantResult:
    """What a run from a snapshot made, and what it took."""

    latents: Snapshot
    kept: tuple[Snapshot, ...]
    steps_run: int
    sigma: float
    seconds: float
    tail: str
    history: str
    schedule: Schedule
    batch_size: int = 1

    def sample(self, index: int) -> "VariantResult":
        """One sample of a batch."""
        kept = tuple(_sample(one, index) for one in self.kept)
        return replace(self, latents=_sample(self.latents, index), kept=kept)


def _sample(snapshot: Snapshot, index: int) -> Snapshot:
    size = snapshot.latents.shape[0]
    if size == 1:
        return snapshot
    tensors = {
        name: tensor[index : index + 1].clone()
        if tensor.ndim == snapshot.latents.ndim and tensor.shape[0] == size
        else tensor
        for name, tensor in snapshot.state_tensors.items()
    }
    return replace(
        snapshot,
        latents=snapshot.latents[index : index + 1].clone(),
        state_tensors=tensors,
        generators=snapshot.generators[index : index + 1],
        told=snapshot.told[index : index + 1],
    )
