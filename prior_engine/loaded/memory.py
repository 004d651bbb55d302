"""Device memory: weights that wait elsewhere, what is given back, and what to say when it does not suffice."""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import torch

from prior_engine.errors import OutOfDeviceMemoryError


def offload(model: Any, device: str, *, by_blocks: bool) -> None:
    """Have the weights wait in main memory: blocks, or single layers of what has no blocks, come as they are needed."""
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        model,
        onload_device=torch.device(device),
        offload_device=torch.device("cpu"),
        offload_type="block_level" if by_blocks else "leaf_level",
        num_blocks_per_group=1 if by_blocks else None,
        use_stream=device.startswith("cuda"),
    )


def tidy() -> None:
    """Give unused memory back to the machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextlib.contextmanager
def explained_memory() -> Iterator[None]:
    """Turn an out-of-memory failure into a sentence, and leave the process usable."""
    try:
        yield
    except torch.OutOfMemoryError as problem:
        text = str(problem).partition("\n")[0]
    else:
        return
    # Outside the handler, so that the failed run's tensors are no longer held by the traceback.
    tidy()
    raise OutOfDeviceMemoryError(
        f"the accelerator ran out of memory ({text}); what helps most, in this order: "
        "batch_size=1, offload='group', quantization='float8_e4m3fn'"
    )
