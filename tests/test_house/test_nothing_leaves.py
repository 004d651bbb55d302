"""A run asks nobody outside of this machine: neither the batch, nor its server, nor any process that they start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHEET = "identity,prompt,base_prompt,seed\nstar,a red star grows,a red star stays still,7\n"


@pytest.fixture
def guarded(tmp_path):
    """`guarded(program...)` runs Python under the guard and tells how it ended and what it tried."""
    record = tmp_path / "attempts.jsonl"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(HERE / "guard"), str(ROOT)]),
        "HEADSTART_GUARD": str(record),
        "HEADSTART_HOME": str(tmp_path / "home"),
    }

    def run(*program):
        done = subprocess.run(
            [sys.executable, *program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        attempts = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        return done, attempts

    return run


@pytest.mark.server
@pytest.mark.slow
def test_a_run_with_its_own_server_connects_to_nobody_outside(guarded, tmp_path):
    (tmp_path / "my.csv").write_text(SHEET)
    try:
        done, attempts = guarded("-m", "flows.cli", "run", "sheet=my.csv", "store=store", "server.port=4900")
    finally:
        stopped, _ = guarded("-m", "flows.cli", "ui", "stop")
    assert done.returncode == 0, done.stderr
    assert "1 variants made" in done.stdout
    assert stopped.stdout == "stopped\n", "the run had a server of its own, under the same guard"
    assert attempts == []


IN_A_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}], check=True)"
PLAINLY = "import socket; socket.socket().connect(('192.0.2.1', 80))"


@pytest.mark.parametrize(
    "program",
    [
        PLAINLY,
        IN_A_CHILD.format(PLAINLY),
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 80))",
        "import urllib.request; urllib.request.urlopen('http://192.0.2.1', timeout=1)",
        "import httpx; httpx.get('http://192.0.2.1', timeout=1)",
        "import asyncio; asyncio.run(asyncio.wait_for(asyncio.open_connection('192.0.2.1', 80), 1))",
        "import socket; socket.gethostbyname('192.0.2.1')",
    ],
)
def test_the_guard_sees_a_deliberate_connection(guarded, program):
    done, attempts = guarded("-c", program)
    assert done.returncode == 1
    assert "refused by the guard" in done.stderr
    assert {attempt["host"] for attempt in attempts} == {"192.0.2.1"}


def test_the_guard_lets_this_machine_talk_to_itself(guarded):
    program = (
        "import socket; server = socket.create_server(('127.0.0.1', 0));"
        "socket.create_connection(('localhost', server.getsockname()[1])).close();"
        "one, other = socket.socketpair(); one.send(b'x'); print(other.recv(1))"
    )
    done, attempts = guarded("-c", program)
    assert (done.stdout, attempts) == ("b'x'\n", []), done.stderr
