"""What is tried again, how often and for how long: storage and network come back, wrong requests do not."""

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

from prior_store.errors import StoreUnreachableError

T = TypeVar("T")

ATTEMPTS: Final = 5
DEADLINE_S: Final = 120.0
FIRST_PAUSE_S: Final = 0.1

_TRANSIENT_ERRNO = {errno.EIO, errno.EBUSY, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.EAGAIN}
_TRANSIENT_CODES = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "ConditionalRequestConflict"}


def again(attempt: Callable[[], T], url: str, pause: Callable[[float], None] = time.sleep) -> T:
    """Try what may be tried again, with growing pauses, a few times and not for ever."""
    began, wait_s = time.monotonic(), FIRST_PAUSE_S
    for left in range(ATTEMPTS - 1, -1, -1):
        try:
            return attempt()
        except Exception as error:
            if not _is_transient(error):
                raise
            if left == 0 or time.monotonic() - began > DEADLINE_S:
                raise StoreUnreachableError(
                    f"{url} did not answer after {ATTEMPTS - left} tries ({type(error).__name__}: {error}); "
                    "check the network and the service, then run the same command again: what is finished is kept"
                ) from error
        pause(wait_s)
        wait_s *= 2
    raise AssertionError("the last try returns or raises")


def _is_transient(error: BaseException) -> bool:
    """Tell what may go better next time."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or response.get("Error", {}).get("Code") in _TRANSIENT_CODES:
            return True
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNO
    # HTTP clients have trees of their own that are no OSErrors; they are told by name so as not to import them here.
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ClientPayloadError", "ServerTimeoutError", "HTTPClientError", "EndpointConnectionError"})
