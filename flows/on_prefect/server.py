"""The Prefect server on this machine: started once, kept running, tuned, quiet.

Runs need a server that outlives them: Prefect's temporary one is stopped before it has written down all task runs.
Nothing that Prefect would send to its makers leaves the machine. Only processes that this module started are stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from flows.on_prefect.door.access import closed_to_others, entrance, privately, secret_of
from flows.on_prefect.processes import process_start
from tasks.errors import ServerError
from tasks.settings import ServerSettings, state_dir

# The recorder writes task runs one by one unless told otherwise; in batches it needs a quarter of the CPU.
_TUNED = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "500",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
}
_PRIVATE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The second UI calls an analytics host from the browser before it has read that it must not.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
}
# What Prefect and the model libraries would print beside our own lines; the user may set any of these otherwise.
_QUIET = {
    "PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL": "WARNING",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}
START_TIMEOUT_S = 180.0
# Servers that this very process started: a child has to be waited for when it ends, or it stays behind as a zombie.
_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was started here. `pid` leads a process group of its own."""

    pid: int
    port: int
    started: str
    # Servers of earlier versions let everybody in.
    private: bool = False

    @property
    def ui_url(self) -> str:
        """Where a browser goes."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api_url(self) -> str:
        """Where a client goes."""
        return f"{self.ui_url}/api"

    @property
    def entrance(self) -> str:
        """Where a browser goes that has not been here before. Holds the secret."""
        return entrance(self.ui_url, secret_of(_folder()))


def quiet_environment() -> None:
    """Turn off what the libraries would send home or print, unless the user wants it. To be called before their import."""
    for name, value in (_PRIVATE | _QUIET).items():
        os.environ.setdefault(name, value)


def running() -> Server | None:
    """The server that was started here and still runs, or None."""
    try:
        server = Server(**json.loads(_record().read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if process_start(server.pid) == server.started:
        return server
    if server.pid in _CHILDREN:
        # It is a zombie, or about to be one as soon as the last of its threads has ended.
        _CHILDREN.pop(server.pid).wait(10)
    return None


def healthy(api_url: str, timeout_s: float = 2.0) -> bool:
    """Does a server answer there?"""
    try:
        with urllib.request.urlopen(f"{api_url.rstrip('/')}/health", timeout=timeout_s) as reply:  # noqa: S310  our own address
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def start(settings: ServerSettings) -> Server:
    """Start the server, or find it running. Two callers at once start one."""
    folder = _folder()
    with _start_lock(folder):
        server = running()
        if server is not None and not server.private:
            stop()
            server = None
        server = server or _spawn(folder, _free_port(settings.port), settings)
        _wait_until_healthy(server)
    return server


def stop() -> bool:
    """Stop the server that was started here; False when there is none."""
    server = running()
    if server is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + 15
    while process_start(server.pid) == server.started and time.monotonic() < deadline:
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    if server.pid in _CHILDREN:
        _CHILDREN.pop(server.pid).wait()
    _record().unlink(missing_ok=True)
    return True


def own_secret(address: str) -> str | None:
    """What lets in at that address, where it is the server of this machine."""
    server = running()
    return secret_of(_folder()) if server is not None and address.rstrip("/") == server.api_url else None


def connect(settings: ServerSettings) -> str | None:
    """Make sure that a server is there and point this process to it; returns the UI's address, None without a server."""
    quiet_environment()
    named = os.environ.get("PREFECT_API_URL")
    if settings.mode == "none":
        return None
    if named or settings.mode == "remote":
        if named and (secret := own_secret(named)):
            os.environ.setdefault("PREFECT_API_AUTH_STRING", secret)
        if not named:
            raise ServerError("server=remote needs PREFECT_API_URL, which is not set; export it, or use server=local")
        if not healthy(named, timeout_s=10):
            raise ServerError(
                f"no Prefect server answers at PREFECT_API_URL={named}; start it, correct the address, or unset it to use a local server"
            )
        return named.removesuffix("/api")
    server = start(settings)
    os.environ["PREFECT_API_URL"] = server.api_url
    os.environ["PREFECT_UI_URL"] = server.ui_url
    os.environ["PREFECT_API_AUTH_STRING"] = secret_of(_folder())
    # The user's own Prefect profile and files stay untouched.
    os.environ.setdefault("PREFECT_HOME", str(_folder() / "client"))
    return server.ui_url


def _folder() -> Path:
    return Path(state_dir()) / "server"


def log_file() -> Path:
    """What the server says."""
    return _folder() / "server.log"


def _record() -> Path:
    return _folder() / "server.json"


@contextlib.contextmanager
def _start_lock(folder: Path) -> Iterator[None]:
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "start.lock").open("w")
    except OSError as error:
        raise ServerError(
            f"the state folder {str(folder)!r} cannot be written: {error}; set HEADSTART_HOME to a folder that can, "
            "or run without a server: server=none"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spawn(folder: Path, port: int, settings: ServerSettings) -> Server:
    closed_to_others(folder)
    address = f"http://127.0.0.1:{port}/api"
    secret = secret_of(folder)
    database = (
        settings.database or os.environ.get("HEADSTART_DATABASE") or f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
        **_TUNED,
        **_PRIVATE,
        "PREFECT_HOME": str(folder),
        "PREFECT_API_DATABASE_CONNECTION_URL": database,
        "PREFECT_UI_API_URL": address,
        "PREFECT_SERVER_UI_API_URL": address,
        "PREFECT_SERVER_API_AUTH_STRING": secret,
        "PREFECT_API_AUTH_STRING": secret,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": f"http://127.0.0.1:{port},http://localhost:{port}",
    }
    with open(log_file(), "wb", opener=privately) as log:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            _command(port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            cwd=folder,
        )
    _CHILDREN[process.pid] = process
    server = Server(pid=process.pid, port=port, started=process_start(process.pid) or "", private=True)
    with open(_record(), "w", opener=privately) as record:
        json.dump(asdict(server), record)
    return server


def _command(port: int) -> list[str]:
    return [sys.executable, "-m", "flows.on_prefect.door.keeper", str(port)]


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not healthy(server.api_url):
        if running() is None:
            raise ServerError(
                f"the Prefect server ended while it started: {_last_words()}; see {log_file()}, or run without it: server=none"
            )
        if time.monotonic() > deadline:
            raise ServerError(
                f"the Prefect server did not answer within {START_TIMEOUT_S:.0f} s; see {log_file()}, or run without it: server=none"
            )
        time.sleep(0.2)


def _last_words() -> str:
    """The line of the log that names the error: the last one that is no part of a frame or a traceback."""
    lines = [line.strip() for line in log_file().read_text(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0]]
    return (named or lines or ["it said nothing"])[-1]


def _free_port(first: int) -> int:
    for port in range(first, min(first + 20, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServerError(f"ports {first} to {first + 19} are all in use; name another: server.port=5200")
