"""Who works on a key: generation-numbered leases, so that work is done once and a dead holder is replaced by one.

A lease is `claim-<generation>.json`, created exclusively. Its holder overwrites `hb-<generation>.json` with a new nonce
while it lives. A waiter needs no common clock: it watches on its own monotonic clock, and when the nonce has stood still
for the time that the lease names, it creates the next generation; exactly one waiter wins that. A holder finds out by
the newer generation that it lost, and cannot publish any more. Even one that is stopped between that check and its
commit does no harm: COMMIT.json is created exclusively, so a key has at most one commit.
"""

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from prior_store import layout
from prior_store.backends.files import Files
from prior_store.errors import ClaimCancelledError, ClaimLostError, ClaimTimeoutError, DamagedError, NoSpaceError

log = logging.getLogger("headstart.store")

TTL_S: Final = 60.0
BEATS_PER_TTL: Final = 4
FIRST_LOOK_S: Final = 0.05
LONGEST_LOOK_S: Final = 2.0
RELEASED: Final = b'{"nonce": "released"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a lease, for the one that waits and for people who ask."""

    generation: int
    nonce: str
    host: str
    pid: int
    ttl_s: float

    @classmethod
    def me(cls, generation: int, ttl_s: float) -> "Holder":
        """Describe this process under a nonce of its own."""
        return cls(
            generation=generation, nonce=secrets.token_hex(16), host=socket.gethostname(), pid=os.getpid(), ttl_s=ttl_s
        )

    def to_json(self) -> bytes:
        """Write the lease record."""
        return json.dumps(
            {
                "nonce": self.nonce,
                "generation": self.generation,
                "host": self.host,
                "pid": self.pid,
                "ttl_s": self.ttl_s,
            }
        ).encode()

    @classmethod
    def from_json(cls, content: bytes, place: str) -> "Holder":
        """Read a lease record."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError) as error:
            raise DamagedError(
                f"{place} is not a lease record ({error}); remove that file, and the key can be claimed again"
            ) from error

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease:
    """One generation of a claim that is ours, kept alive by a thread until it is ended."""

    def __init__(self, files: Files, kind: str, key: str, holder: Holder) -> None:
        self.holder = holder
        self._files, self._kind, self._key = files, kind, key
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name=f"lease-{key[:8]}", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def check(self) -> None:
        """Raise if somebody else has the key now, by asking the store itself."""
        if not self._lost.is_set() and not self._is_ours():
            self._lost.set()
        if self._lost.is_set():
            raise ClaimLostError(
                f"{self._kind}/{self._key[:12]} was taken over while {self.holder} gave no sign of life for "
                f"{self.holder.ttl_s:g} s; what it made is dropped, the new holder's result counts"
            )

    def end(self, *, committed: bool) -> None:
        """Stop beating. After a commit the lease files go; without one the next claimer is let in at once."""
        self._ended.set()
        self._thread.join(timeout=self.holder.ttl_s)
        try:
            if committed:
                for generation in range(1, self.holder.generation + 1):
                    self._files.remove(layout.heartbeat_path(self._kind, self._key, generation))
                    self._files.remove(layout.claim_path(self._kind, self._key, generation))
            elif not self._lost.is_set():
                self._release()
        except OSError as error:
            # The work is decided by now; a lease that stays behind runs out by itself, and `gc` sweeps it up.
            log.warning("the lease of %s/%s stays behind: %s", self._kind, self._key[:12], error)

    def _release(self) -> None:
        try:
            self._beat(RELEASED)
        except NoSpaceError:
            # A full disk takes no sign, but a lease that is gone lets the next one in as well.
            self._files.remove(layout.claim_path(self._kind, self._key, self.holder.generation))
            self._files.remove(layout.heartbeat_path(self._kind, self._key, self.holder.generation))

    def _keep_alive(self) -> None:
        while not self._ended.wait(self.holder.ttl_s / BEATS_PER_TTL):
            try:
                if not self._is_ours():
                    self._lost.set()
                    return
                self._beat(json.dumps({"nonce": secrets.token_hex(8)}).encode())
            except Exception as error:  # noqa: BLE001 - backends raise what they like, and nothing may end the beating
                # One beat that fails is no reason to stop the work: the next may arrive, and `check` asks again.
                log.warning("a heartbeat for %s/%s failed: %s", self._kind, self._key[:12], error)

    def _beat(self, sign: bytes) -> None:
        self._files.put(layout.heartbeat_path(self._kind, self._key, self.holder.generation), sign, flush=False)

    def _is_ours(self) -> bool:
        generation = self.holder.generation
        newer = layout.claim_path(self._kind, self._key, generation + 1)
        mine = layout.claim_path(self._kind, self._key, generation)
        found = self._files.read_many([newer, mine])
        return found[newer] is None and found[mine] == self.holder.to_json()


def acquire(
    files: Files,
    kind: str,
    key: str,
    *,
    ttl_s: float = TTL_S,
    wait_s: float | None = None,
    on_wait: Callable[[str, float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    is_committed: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Lease | None:
    """Wait until the key is ours (a started lease) or committed by somebody else (None)."""
    began = clock()
    watch = Watch(files, kind, key, clock)
    current: Holder | None = None
    pause = FIRST_LOOK_S
    while True:
        if is_committed():
            return None
        if current is None or watch.is_free(current):
            lease = take(files, kind, key, (current.generation if current else 0) + 1, ttl_s)
            if lease is not None:
                return lease if _settled(lease, is_committed) else None
            current = watch.current()
            continue
        waited = clock() - began
        if cancel is not None and cancel():
            raise ClaimCancelledError(f"gave up waiting for {kind}/{key[:12]}, which {current} is making")
        if on_wait is not None:
            on_wait(str(current), waited)
        if wait_s is not None and waited >= wait_s:
            raise ClaimTimeoutError(
                f"{kind}/{key[:12]} is still being made by {current} after {waited:.0f} s; wait longer, or stop that process"
            )
        sleep(pause if wait_s is None else max(0.0, min(pause, wait_s - waited)))
        pause = min(2 * pause, LONGEST_LOOK_S, current.ttl_s / BEATS_PER_TTL)
        current = watch.current()


def _settled(lease: Lease, is_committed: Callable[[], bool]) -> bool:
    """Start a lease just taken, unless the last holder finished between our look and our claim."""
    lease.start()
    try:
        committed = is_committed()
    except BaseException:
        lease.end(committed=False)  # or it would beat on for as long as this process lives
        raise
    if committed:
        lease.end(committed=True)
    return not committed


class Watch:
    """Looks at the lease of a key again and again and tells when it has stood still for too long."""

    def __init__(self, files: Files, kind: str, key: str, clock: Callable[[], float]) -> None:
        self._files, self._kind, self._key, self._clock = files, kind, key, clock
        self._seen: tuple[int, bytes | None] | None = None
        self._since = clock()

    def current(self) -> Holder | None:
        """Find the newest lease, None if nobody ever claimed."""
        names = self._files.names(layout.object_dir(self._kind, self._key))
        generation = max((found for name in names if (found := layout.claim_generation(name)) is not None), default=0)
        newest = None
        while True:
            # A listing may lag behind; a lease that is there can always be read.
            place = layout.claim_path(self._kind, self._key, max(generation, 1))
            content = self._files.read_many([place])[place]
            if content is None:
                return newest
            newest = Holder.from_json(content, place)
            generation = max(generation, 1) + 1

    def is_free(self, holder: Holder) -> bool:
        """Tell whether the lease was released, or its nonce has not changed for as long as it promised."""
        beat = _beat(self._files, self._kind, self._key, holder)
        if beat == RELEASED:
            return True
        if self._seen != (holder.generation, beat):
            self._seen, self._since = (holder.generation, beat), self._clock()
        return self._clock() - self._since >= holder.ttl_s


def is_released(files: Files, kind: str, key: str, holder: Holder) -> bool:
    """Tell whether the holder itself gave the lease up."""
    return _beat(files, kind, key, holder) == RELEASED


def take(files: Files, kind: str, key: str, generation: int, ttl_s: float) -> Lease | None:
    """Create the lease of one generation; None if somebody else has."""
    holder = Holder.me(generation, ttl_s)
    # A lease has to be exclusive, not lasting: in a power cut its holder dies too.
    if not files.create(layout.claim_path(kind, key, generation), holder.to_json(), flush=False):
        return None
    return Lease(files, kind, key, holder)


def _beat(files: Files, kind: str, key: str, holder: Holder) -> bytes | None:
    place = layout.heartbeat_path(kind, key, holder.generation)
    return files.read_many([place])[place]
