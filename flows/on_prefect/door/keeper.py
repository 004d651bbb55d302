"""The Prefect server with a keeper at its door: `python -m flows.on_prefect.door.keeper PORT`.

A page of any website can send requests to a server on this machine. So the keeper takes only requests that name this
server as their host (a foreign name could be made to point here) and that come from no other page; Prefect's own
password and CSRF check stand behind it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.on_prefect.door.access import ENTRANCE

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

# Prefect's own pages read the password from here.
_SCRIPT = "localStorage.setItem('prefect-password', location.hash.slice(1)); location.replace('/');"
_PAGE = f"<!doctype html><title>Headstart</title><script>{_SCRIPT}</script>".encode()
_DIGEST = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_ENTRANCE_HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", f"default-src 'none'; script-src 'sha256-{_DIGEST}'; frame-ancestors 'none'".encode()),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
]


class Keeper:
    """An ASGI application around another one."""

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Let it through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            await _refuse(scope, send, 421, f"this server is known as {' or '.join(sorted(self._hosts))}")
        elif any(origin not in self._origins for origin in origins):
            await _refuse(scope, send, 403, "requests from other pages are not answered")
        elif scope["type"] == "http" and scope["path"] == ENTRANCE:
            await _answer(send, 200, _PAGE, _ENTRANCE_HEADERS)
        else:
            await self._app(scope, receive, send)


async def _refuse(scope: MutableMapping[str, Any], send: Any, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    await _answer(send, status, f"{why}\n".encode(), [(b"content-type", b"text/plain; charset=utf-8")])


async def _answer(send: Any, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def main(port: int) -> None:
    """Serve until told to end."""
    os.umask(0o077)
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.run(
        Keeper(create_app(final=True), port), host="127.0.0.1", port=port, log_level="info", server_header=False
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
