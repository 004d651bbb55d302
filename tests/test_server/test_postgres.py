"""The server on Postgres, by one setting: it starts, a batch is recorded in it, nothing is lost."""

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_server.test_ui import MANY, Batches, launch, settled

pytestmark = [pytest.mark.server, pytest.mark.slow]
PROGRAMS = shutil.which("initdb") or next(
    iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))), None
)


@pytest.fixture
def database():
    """The URL of an empty database in a Postgres of its own."""
    if PROGRAMS is None:
        pytest.skip("NOT PROVEN HERE: no Postgres on this machine; install the package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="headstart-postgres-"))
    # Postgres refuses to run as the administrator.
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    how = {"user": user, "cwd": folder} if os.geteuid() == 0 else {"cwd": folder}
    bin_folder, data = Path(PROGRAMS).resolve().parent, folder / "data"
    made = [
        bin_folder / "initdb",
        "-D",
        data,
        "-U",
        "headstart",
        "--auth=trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    subprocess.run(made, **how, check=True, capture_output=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([bin_folder / "postgres", "-D", data, *options], **how, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 180
        while not answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.1)
        yield f"postgresql+asyncpg://headstart@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait(120)
        shutil.rmtree(folder, ignore_errors=True)


def answers(port):
    return (
        subprocess.run(
            [Path(PROGRAMS).resolve().parent / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
        ).returncode
        == 0
    )


def asked(database, query):
    import asyncpg

    async def ask():
        connection = await asyncpg.connect(database.replace("+asyncpg", ""))
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    # On a thread of its own: the browser of other tests keeps an event loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(ask())).result()


def test_a_batch_is_recorded_in_postgres(database, tiny_t2v, tmp_path, monkeypatch):
    from flows.on_prefect import server

    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    for name in ("PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_HOME"):
        monkeypatch.delenv(name, raising=False)
    try:
        where = [f"server.database={database}", "server.port=4420"]
        said = launch(tmp_path, tiny_t2v, 40, 4, [MANY, "20", "0"], "on-postgres", *where)
        assert said.returncode == 1, said.stderr
        api = Batches(server.running())
        states = settled(api, api.run_of("on-postgres"), 40 + 4 + 1)
        assert states == {"COMPLETED": 43, "FAILED": 2}
        assert asked(database, "select count(*) from task_run") == 45
        assert asked(database, "select name from flow_run") == "on-postgres"
    finally:
        server.stop()
    assert not (tmp_path / "home" / "server" / "prefect.db").exists(), "no SQLite beside it"
