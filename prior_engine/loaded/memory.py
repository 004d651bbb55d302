"""Device memory: given back when it is no longer needed, and what to say when it does not suffice."""

import contextlib
import gc
from collections.abc import Iterator

import torch

from prior_engine.errors import OutOfDeviceMemoryError


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
