"""Tells the Prefect server what happens: in the background, in order, and never waited for by the work itself.

The UI is a window, not a record. A server that is slow, away or gone for good costs a run nothing; what it could not be
told is kept, and handed in when it is back, by this process or by the next one that finds it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from flows.on_prefect.door.access import privately
from tasks.settings import state_dir

log = logging.getLogger("headstart")
# A row is three events of about two kilobytes; past this the oldest are given up, and that is said.
_MOST = 30_000
_AT_ONCE = 200
_TIMEOUT_S = 20.0
# For one that did not answer last time, so that the end of a run waits no longer than this.
_TIMEOUT_AWAY_S = 3.0
_LONGEST_PAUSE_S = 5.0
# A server that was killed may have lost what it had not yet written down. It takes the same event twice without harm.
_AGAIN_S = 30.0
# What a server answers that no further try would change.
_FINAL = frozenset({400, 404, 405, 409, 413, 422})
# How often it may fail over one letter while it says that it is ready.
_STUMBLES = 12
_KEPT_S = 7 * 24 * 3600.0
_GATHERED = {"/events", "/logs/"}


class Letter(NamedTuple):
    """One request. Events and logs are gathered: many go in one."""

    method: str
    path: str
    body: Any


class Window:
    """Used in a `with` block, at whose end it tells what is left, as long as somebody listens."""

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque()
        self._latest: dict[str, Letter] = {}
        self._sent: deque[tuple[float, Letter]] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._away_since: float | None = None
        self._given_up = 0
        self._stumbles = 0
        self._thread = threading.Thread(target=self._work, name="headstart-window", daemon=True)

    @property
    def away(self) -> bool:
        """Whether the server did not answer when it was last told something."""
        return self._away_since is not None

    def tell(self, method: str, path: str, body: Any) -> None:
        """Hand in a letter; what is said of events and logs is one entry of their list."""
        with self._changed:
            self._letters.append(Letter(method, path, body))
            while len(self._letters) > _MOST:
                self._letters.popleft()
                self._given_up += 1
            self._changed.notify()

    def tell_latest(self, method: str, path: str, body: Any) -> None:
        """Hand in what replaces an earlier letter to the same address that is not sent yet."""
        with self._changed:
            self._latest[path] = Letter(method, path, body)
            self._changed.notify()

    def __enter__(self) -> Self:
        for letter in _left_behind():
            self._letters.append(letter)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        left = len(self._letters) + len(self._latest)
        if left:
            kept = _keep([*self._letters, *self._latest.values()])
            log.warning(
                "the Prefect server is away: %d things about this run are missing in its UI; %s",
                left + self._given_up,
                "the next run that finds the server hands them in"
                if kept
                else "they are lost, for they cannot be kept",
            )
        elif self._given_up:
            log.warning("the Prefect server was away too long: %d things are missing in its UI", self._given_up)

    def _work(self) -> None:
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        # Tried again here, where nothing waits for it.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), _client() as client:
            tries = 0
            while (letter := self._next()) is not None:
                if self._sends(client, letter):
                    tries = 0
                    continue
                self._put_back(letter)
                self._repeat_what_may_be_lost()
                if self._closing and tries:
                    return
                tries += 1
                self._pause(min(_LONGEST_PAUSE_S, 0.25 * 2**tries))

    def _next(self) -> Letter | None:
        """The next letter, gathered; None when there is nothing left and nothing will come."""
        with self._changed:
            while not self._letters and not self._latest:
                if self._closing:
                    return None
                self._changed.wait()
            if not self._letters:
                return self._latest.pop(next(iter(self._latest)))
            first = self._letters.popleft()
            if first.path not in _GATHERED:
                return first
            together = [first.body]
            while len(together) < _AT_ONCE and self._letters and self._letters[0].path == first.path:
                together.append(self._letters.popleft().body)
            return Letter(first.method, first.path, together)

    def _put_back(self, letter: Letter) -> None:
        bodies = letter.body if letter.path in _GATHERED else [letter.body]
        with self._changed:
            self._letters.extendleft(Letter(letter.method, letter.path, body) for body in reversed(bodies))

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, seconds)

    def _sends(self, client: Any, letter: Letter) -> bool:
        """Send it; False when nobody took it, and it is to be tried again."""
        timeout = _TIMEOUT_S if self._away_since is None else _TIMEOUT_AWAY_S
        try:
            client.request(letter.method, letter.path, json=letter.body, timeout=timeout)
        except Exception as error:  # noqa: BLE001  whatever went wrong, the run does not stop because a window is shut
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in _FINAL or (status is not None and self._stumbled(client)):
                log.warning("the Prefect server does not take %s: %s", letter.path, str(error).splitlines()[0])
                self._stumbles = 0
                return True
            self._found_away(error)
            return False
        self._stumbles = 0
        self._found_there(letter)
        return True

    def _stumbled(self, client: Any) -> bool:
        """Whether it is this letter that it cannot take, again and again, and not its database that is away."""
        try:
            client.request("GET", "/ready", timeout=_TIMEOUT_AWAY_S)
        except Exception:  # noqa: BLE001  whatever is wrong with it, it is not the letter
            return False
        self._stumbles += 1
        return self._stumbles > _STUMBLES

    def _found_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning("the Prefect server does not answer (%s); the run goes on without it", type(error).__name__)

    def _repeat_what_may_be_lost(self) -> None:
        with self._changed:
            self._letters.extendleft(letter for _, letter in reversed(self._sent))
            self._sent.clear()

    def _found_there(self, letter: Letter) -> None:
        now = time.monotonic()
        if self._away_since is not None:
            log.warning("the Prefect server is back after %.0f s; it is told the rest", now - self._away_since)
            self._away_since = None
        if letter.path == "/events":
            self._sent.extend((now, letter._replace(body=body)) for body in letter.body)
        while self._sent and self._sent[0][0] < now - _AGAIN_S:
            self._sent.popleft()


@contextmanager
def _client() -> Iterator[Any]:
    from prefect import get_client

    with get_client(sync_client=True) as client:
        yield client


def _kept_in() -> Path:
    return Path(state_dir()) / "untold"


def _address() -> str:
    return os.environ.get("PREFECT_API_URL", "")


def _keep(letters: list[Letter]) -> bool:
    """Keep letters for the next process that talks to this server."""
    text = json.dumps({"server": _address(), "letters": letters})
    try:
        _kept_in().mkdir(parents=True, exist_ok=True)
        file = _kept_in() / f"{uuid.uuid4().hex}.json"
        with open(file.with_suffix(".part"), "x", opener=privately) as part:
            part.write(text)
        file.with_suffix(".part").rename(file)
    except OSError as error:
        log.debug("untold letters cannot be kept: %s", error)
        return False
    return True


def _left_behind() -> Iterator[Letter]:
    """What earlier runs could not tell this server. Whoever renames the file has it."""
    for file in sorted(_kept_in().glob("*.json")) if _kept_in().is_dir() else []:
        taken = file.with_suffix(".taken")
        try:
            if time.time() - file.stat().st_mtime > _KEPT_S:
                file.unlink()
                continue
            kept: Mapping[str, Any] = json.loads(file.read_text())
            if kept["server"] != _address():
                continue
            file.rename(taken)
            yield from (Letter(*letter) for letter in kept["letters"])
            taken.unlink()
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.debug("%s cannot be told: %s", file.name, error)
