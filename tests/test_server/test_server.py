"""Start, find, stop: with a stand-in for Prefect that answers at once, so that every odd end can be tried."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.on_prefect import server
from tasks.errors import ServerError
from tasks.settings import ServerSettings

pytestmark = pytest.mark.process
STAND_IN = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answer).serve_forever()
"""
LOCAL = ServerSettings(port=4700)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A state folder of its own; whatever was started in it is stopped."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_HOME", "PREFECT_API_AUTH_STRING"):
        monkeypatch.delenv(name, raising=False)
    before = os.environ.copy()
    monkeypatch.setattr(server, "_command", lambda port: [sys.executable, "-c", STAND_IN, str(port)])
    yield tmp_path / "home"
    server.stop()
    for name in set(os.environ) - set(before):
        del os.environ[name]


def test_the_second_start_finds_the_first(home):
    first = server.start(LOCAL)
    assert server.start(LOCAL) == first
    assert server.running() == first
    assert server.healthy(first.api_url)


def test_many_starts_at_once_start_one(home):
    found = []
    threads = [threading.Thread(target=lambda: found.append(server.start(LOCAL))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 6


def test_it_outlives_the_process_that_started_it(home):
    program = (
        "import sys; from flows.on_prefect import server; from tasks.settings import ServerSettings;"
        f"server._command = lambda port: [sys.executable, '-c', {STAND_IN!r}, str(port)];"
        "print(server.start(ServerSettings(port=4700)).pid)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert server.running().pid == int(said.stdout)
    assert server.healthy(server.running().api_url)


def test_stop_ends_it_and_forgets_it(home):
    started = server.start(LOCAL)
    assert server.stop()
    assert server.running() is None
    assert not server.healthy(started.api_url)
    assert not server.stop(), "there is nothing left to stop"


def test_stop_ends_only_what_was_started_here(home):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        home.joinpath("server").mkdir(parents=True)
        record = {"pid": other.pid, "port": 4700, "started": "some other process of that number"}
        home.joinpath("server", "server.json").write_text(json.dumps(record))
        assert server.running() is None
        assert not server.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("record", ["", "{", "[]", '{"pid": 1}', '{"pid": 999999999, "port": 1, "started": "1"}'])
def test_a_stale_or_broken_record_is_no_server(home, record):
    home.joinpath("server").mkdir(parents=True)
    home.joinpath("server", "server.json").write_text(record)
    assert server.running() is None
    assert server.start(LOCAL) == server.running()


def test_after_a_kill_the_next_start_makes_a_new_one(home):
    first = server.start(LOCAL)
    os.killpg(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while server.running() is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.start(LOCAL).pid != first.pid


def test_a_port_in_use_is_passed_over(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert server.start(ServerSettings(port=port)).port > port


def test_no_free_port_is_one_sentence(home):
    held = []
    try:
        for port in range(4760, 4780):
            taken = socket.socket()
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
            held.append(taken)
        with pytest.raises(ServerError, match=r"4760 to 4779 are all in use.*server.port="):
            server.start(ServerSettings(port=4760))
    finally:
        for taken in held:
            taken.close()


def test_a_state_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(ServerError, match=r"cannot be written.*HEADSTART_HOME.*server=none"):
        server.start(LOCAL)


def test_a_server_that_dies_tells_its_error(home, monkeypatch):
    program = "import sys; print('starting'); sys.stdout.flush(); raise RuntimeError('no such database')"
    monkeypatch.setattr(server, "_command", lambda port: [sys.executable, "-c", program])
    with pytest.raises(ServerError, match=r"RuntimeError: no such database.*server=none"):
        server.start(LOCAL)
    assert server.running() is None


def test_a_server_that_never_answers_is_given_up(home, monkeypatch):
    monkeypatch.setattr(server, "START_TIMEOUT_S", 0.5)
    monkeypatch.setattr(server, "_command", lambda port: [sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(ServerError, match="did not answer"):
        server.start(LOCAL)


def test_the_users_own_address_wins(home, monkeypatch):
    started = server.start(LOCAL)
    monkeypatch.setenv("PREFECT_API_URL", started.api_url)
    monkeypatch.setattr(server, "_spawn", lambda *_: pytest.fail("a second server was started"))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("HEADSTART_HOME", str(home / "another"))
        assert server.connect(ServerSettings()) == started.ui_url
    assert os.environ["PREFECT_API_URL"] == started.api_url


@pytest.mark.parametrize("mode", ["local", "remote"])
def test_a_dead_address_is_one_sentence(home, monkeypatch, mode):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    with pytest.raises(ServerError, match=r"no Prefect server answers at PREFECT_API_URL=http://127.0.0.1:9/api"):
        server.connect(ServerSettings(mode=mode))


def test_remote_without_an_address_is_one_sentence(home):
    with pytest.raises(ServerError, match="needs PREFECT_API_URL"):
        server.connect(ServerSettings(mode="remote"))


def test_none_means_none(home, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert server.connect(ServerSettings(mode="none")) is None


def test_what_the_server_is_given(home, monkeypatch):
    """Tuned, private, its database where it belongs; one setting makes it Postgres."""
    monkeypatch.setenv("HOME", str(home))
    program = "import json, os; json.dump(dict(os.environ), open('seen.json', 'w'))" + STAND_IN
    monkeypatch.setattr(server, "_command", lambda port: [sys.executable, "-c", program, str(port)])
    started = server.start(ServerSettings(port=4700, database="postgresql+asyncpg://me@db/prefect"))
    seen = json.loads(home.joinpath("server", "seen.json").read_text())
    assert seen["PREFECT_API_DATABASE_CONNECTION_URL"] == "postgresql+asyncpg://me@db/prefect"
    assert seen["DO_NOT_TRACK"] == "1"
    assert seen["PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE"] == "200"
    assert seen["PREFECT_UI_API_URL"] == started.api_url
    assert "PREFECT_API_URL" not in seen
    server.stop()
    server.start(LOCAL)
    seen = json.loads(home.joinpath("server", "seen.json").read_text())
    assert seen["PREFECT_API_DATABASE_CONNECTION_URL"].startswith(f"sqlite+aiosqlite:///{home}")


def test_the_verbs(home, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    run = CliRunner().invoke
    assert run(app, ["ui", "status"]).exit_code == 1
    started = run(app, ["ui", "start", "server.port=4700"])
    assert "the Prefect UI is at http://127.0.0.1:47" in started.output
    assert run(app, ["ui", "start"]).output == started.output
    assert started.output.strip().endswith(server.running().entrance), "a browser needs it once"
    status = run(app, ["ui", "status"])
    assert (status.exit_code, "answers" in status.output) == (0, True)
    run(app, ["ui", "open"])
    assert opened == [server.running().entrance]
    assert "stopped" in run(app, ["ui", "stop"]).output
    assert "no server" in run(app, ["ui", "stop"]).output


def test_a_server_of_an_older_version_is_replaced(home):
    first = server.start(LOCAL)
    record = home / "server" / "server.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps({name: known[name] for name in ("pid", "port", "started")}))
    second = server.start(LOCAL)
    assert second.private
    assert second.pid != first.pid
    assert server.process_start(first.pid) != first.started


def test_its_files_are_for_nobody_else(home):
    home.joinpath("server").mkdir(parents=True)
    home.joinpath("server", "prefect.db").write_text("from an earlier version")
    server.start(LOCAL)
    assert home.joinpath("server").stat().st_mode & 0o777 == 0o700
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in home.joinpath("server").iterdir()}
    assert {"prefect.db", "server.json", "server.log", "secret"} <= set(modes)
    assert set(modes.values()) == {"0o600"}, modes
