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
from own_server import own_home, started
from test_server.test_ui import MANY, Batches, launch, prepared, settled

pytestmark = [pytest.mark.server, pytest.mark.slow]
PORT = 5000
PROGRAMS = shutil.which("initdb") or next(
    iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))), None
)


@pytest.fixture
def postgres():
    """The URL of an empty database in a Postgres of its own, and the process."""
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
        yield f"postgresql+asyncpg://headstart@127.0.0.1:{port}/postgres", process
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


def test_a_batch_is_recorded_in_postgres(postgres, tiny_t2v, tmp_path):
    database, _ = postgres
    with own_home(tmp_path / "home"):
        where = [f"server.database={database}", f"server.port={PORT}"]
        said = launch(tmp_path, tiny_t2v, 40, 4, [MANY, "20", "0"], "on-postgres", *where)
        assert said.returncode == 1, said.stderr
        api = Batches(started(PORT))
        states = settled(api, api.run_of("on-postgres"), 40 + 4 + 1)
        assert states == {"COMPLETED": 43, "FAILED": 2}
        assert asked(database, "select count(*) from task_run") == 45
        assert asked(database, "select name from flow_run") == "on-postgres"
    assert not (tmp_path / "home" / "server" / "prefect.db").exists(), "no SQLite beside it"


def test_a_batch_outlives_the_database_behind_the_server(postgres, tiny_t2v, tmp_path):
    database, process = postgres
    gate = tmp_path / "gate"
    with own_home(tmp_path / "home"):
        where = [f"server.database={database}", f"server.port={PORT}"]
        command = prepared(tmp_path, tiny_t2v, 120, 3, [MANY, "0", "0"], "orphaned", *where)
        command["env"] |= {"HEADSTART_TEST_GATE": str(gate)}
        with subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as batch:
            end = time.monotonic() + 240
            while not list((tmp_path / "store" / "batches").glob("orphaned/rows-*.json")):
                assert batch.poll() is None, batch.communicate()
                assert time.monotonic() < end
                time.sleep(0.05)
            process.kill()
            process.wait()
            gate.touch()
            out, err = batch.communicate(timeout=240)
    assert batch.returncode == 0, err
    assert "120 variants made, 0 already there, 0 failed" in out
    assert "Traceback" not in err
    assert (tmp_path / "store" / "batches" / "orphaned" / "report.html").exists()
