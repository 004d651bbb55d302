"""What can go wrong in the engine, as one tree.

EngineError
├── RequestError (ValueError)            a request, schedule or setting that cannot be right
│   ├── UnsupportedError                 this model or solver cannot do that exactly, and why
│   └── StartStepError                   a start step outside the prior
├── ModelSourceError (FileNotFoundError) the model is not where it was said to be
├── PinMismatchError (ValueError)        a snapshot of another schedule, size, model or identity
├── SnapshotError (ValueError)           something that cannot be stored, or was not stored by us
├── NonFiniteLatentsError (ArithmeticError)  NaN or Inf appeared while denoising
├── OutOfDeviceMemoryError (MemoryError) the accelerator's memory did not suffice
├── RunCancelledError (RuntimeError)     the caller asked to stop between two steps
└── VideoError (RuntimeError)            the video could not be written

    RoundedUpWarning (UserWarning)           a size or length was rounded up to one that the model makes
"""

from collections.abc import Mapping


class EngineError(Exception):
    """Anything the engine refuses or fails at."""


class RequestError(EngineError, ValueError):
    """The request, the schedule or a setting cannot be right."""


class UnsupportedError(RequestError):
    """The model, the solver or the combination cannot be run exactly."""


class StartStepError(RequestError):
    """The start step lies outside the steps that a variant can start from."""


class ModelSourceError(EngineError, FileNotFoundError):
    """The model folder or hub id does not hold a usable model."""

    __str__ = Exception.__str__


class PinMismatchError(EngineError, ValueError):
    """The prior was made with something else than what is asked for now."""

    def __init__(self, differences: Mapping[str, tuple[object, object]]) -> None:
        self.differences = dict(differences)
        lines = [f"  {name}: the prior has {was!r}, you asked for {now!r}" for name, (was, now) in differences.items()]
        super().__init__(
            f"{len(lines)} pinned {'field differs' if len(lines) == 1 else 'fields differ'} from the prior; "
            "ask for what the prior has, or record another prior:\n" + "\n".join(lines)
        )


class SnapshotError(EngineError, ValueError):
    """The snapshot holds, or would have to hold, something that cannot be stored."""


class NonFiniteLatentsError(EngineError, ArithmeticError):
    """NaN or Inf appeared in the latents."""


class OutOfDeviceMemoryError(EngineError, MemoryError):
    """The accelerator ran out of memory; the process stays usable."""


class RunCancelledError(EngineError, RuntimeError):
    """The caller asked the run to stop; what was made until then is whole."""


class VideoError(EngineError, RuntimeError):
    """The encoder did not take the frames."""


class RoundedUpWarning(UserWarning):
    """A size or length was not one that the model makes, and was rounded up."""
