"""`headstart doctor` on a healthy machine and on broken ones: which line, which word, which exit code."""

import json
import shutil
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from prior_store import Store
from prior_store.backends.local import LocalFiles
from tasks.planning.models.check import broken_files
from tasks.settings import Settings

pytestmark = pytest.mark.process  # ffmpeg


@pytest.fixture
def doctor(tmp_path, monkeypatch, tiny_t2v):
    """`doctor(...)` is the exit code and the findings by part, on a machine that is otherwise well."""
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)

    def examine(*overrides):
        settings = [f"model={tiny_t2v}", f"store={tmp_path / 'store'}", "runner.devices=cpu", *overrides]
        said = CliRunner().invoke(app, ["doctor", "--json", *settings])
        assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
        found = {}
        for finding in json.loads(said.output):
            found.setdefault(finding["part"], []).append(finding)
        return said.exit_code, found

    return examine


def worst(found, part):
    order = ["ok", "warn", "fail"]
    return max(found[part], key=lambda finding: order.index(finding["status"]))


def test_a_healthy_machine(doctor, tmp_path):
    code, found = doctor()
    assert code == 0
    assert set(found) == {"python", "device", "disk", "ffmpeg", "model", "store", "clock", "server"}
    assert not [finding for part in found.values() for finding in part if finding["status"] == "fail"]
    assert "many writers" in worst(found, "store")["seen"]
    assert not (tmp_path / "store").exists(), "a look leaves nothing behind"


def test_a_store_that_is_there_stays_as_it_is(doctor, tmp_path):
    Store.open(tmp_path / "store")
    before = sorted(path.relative_to(tmp_path) for path in (tmp_path / "store").rglob("*") if path.is_file())
    code, _ = doctor()
    after = sorted(path.relative_to(tmp_path) for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert (code, after) == (0, before)


def test_everything_that_is_not_well_says_what_to_do(doctor, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    _, found = doctor()
    for finding in (finding for part in found.values() for finding in part):
        assert finding["status"] == "ok" or finding["do"], finding


def test_no_ffmpeg(doctor, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    code, found = doctor()
    assert code == 1
    assert worst(found, "ffmpeg")["status"] == "fail"
    assert "IMAGEIO_FFMPEG_EXE" in worst(found, "ffmpeg")["do"]


def test_an_ffmpeg_without_h264(doctor, monkeypatch, tmp_path):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' V..... mpeg4'\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    code, found = doctor()
    assert (code, "libx264" in worst(found, "ffmpeg")["seen"]) == (1, True)


def test_a_store_that_can_only_be_read(doctor, tmp_path, monkeypatch):
    Store.open(tmp_path / "store")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFiles, "refuses_second_create", refuse)
    code, found = doctor()
    assert code == 1
    assert "read but not written" in worst(found, "store")["seen"]


def test_a_store_below_a_file(doctor, tmp_path):
    (tmp_path / "file").write_text("")
    code, found = doctor(f"store={tmp_path / 'file' / 'store'}")
    assert (code, worst(found, "store")["status"]) == (1, "fail")


def test_a_folder_that_holds_other_things(doctor, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "holiday.jpg").write_text("")
    code, found = doctor()
    assert (code, "holiday.jpg" in worst(found, "store")["seen"]) == (1, True)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("there", [True, False])
def test_a_backend_that_ignores_conditional_writes(doctor, tmp_path, monkeypatch, there):
    if there:
        Store.open(tmp_path / "store")
    monkeypatch.setattr(LocalFiles, "refuses_second_create", lambda *_: False)
    code, found = doctor()
    assert code == 0, "one process alone can work with it"
    assert worst(found, "store")["status"] == "warn"
    assert "ignores conditional writes" in worst(found, "store")["seen"]
    assert "one process" in worst(found, "store")["do"]


DEAF_S3 = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
moto = DomainDispatcherApplication(create_backend_app)
def deaf(environ, start_response):
    for condition in ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"):
        environ.pop(condition, None)
    return moto(environ, start_response)
run_simple("127.0.0.1", int(sys.argv[1]), deaf, threaded=True)
"""


@pytest.fixture
def deaf_s3(monkeypatch, tmp_path):
    """A real S3 server that ignores the conditions of a write, as some do; gives its address, with a bucket in it."""
    from s3fs import S3FileSystem

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (tmp_path / "s3.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", DEAF_S3, str(port)], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "s3.log").read_text()
                assert time.monotonic() < end
                time.sleep(0.1)
        S3FileSystem(endpoint_url=f"http://127.0.0.1:{port}", skip_instance_cache=True).mkdir("deaf")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def test_an_s3_server_that_ignores_conditional_writes(doctor, deaf_s3):
    code, found = doctor("store=s3://deaf/store", f"store.storage_options.endpoint_url={deaf_s3}")
    assert (code, worst(found, "store")["status"]) == (0, "warn")
    assert "s3://deaf/store ignores conditional writes" in worst(found, "store")["seen"]
    assert "one process" in worst(found, "store")["do"]


def test_a_dead_server(doctor, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, found = doctor()
    assert (code, worst(found, "server")["status"]) == (1, "fail")
    assert "http://127.0.0.1:9/api" in worst(found, "server")["seen"]


def test_a_server_that_is_not_wanted_is_not_looked_for(doctor, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, found = doctor("server=none")
    assert (code, worst(found, "server")["status"]) == (0, "ok")


def test_a_server_that_answers(doctor, prefect_server, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api_url)
    code, found = doctor()
    assert (code, "answers, Prefect 3" in worst(found, "server")["seen"]) == (0, True)


@pytest.fixture
def copy(tiny_t2v, tmp_path):
    return shutil.copytree(tiny_t2v, tmp_path / "copy")


def test_a_model_file_that_is_cut_off(doctor, copy):
    file = next((copy / "transformer").glob("*.safetensors"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    code, found = doctor(f"model={copy}")
    assert code == 1
    assert str(file) in worst(found, "model")["seen"]
    assert "again" in worst(found, "model")["do"]


@pytest.mark.parametrize("part", ["vae", "text_encoder", "transformer"])
def test_a_model_part_without_weights(copy, part):
    next((copy / part).glob("*.safetensors")).unlink()
    broken, _ = broken_files(Settings(), str(copy))
    assert [file for file, _ in broken] == [copy / part]


def test_no_model_at_all(doctor, tmp_path):
    code, found = doctor(f"model={tmp_path / 'nothing'}")
    assert (code, worst(found, "model")["status"]) == (1, "fail")


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(doctor, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: 1 / 0)
    code, found = doctor()
    assert (code, worst(found, "disk")["seen"]) == (1, "ZeroDivisionError: division by zero")
    assert "server" in found


def test_a_full_disk(doctor, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**20))
    code, found = doctor()
    assert (code, worst(found, "disk")["status"]) == (1, "fail")


def test_people_read_lines_and_a_verdict(doctor, tmp_path, tiny_t2v, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    said = CliRunner().invoke(app, ["doctor", f"model={tiny_t2v}", f"store={tmp_path / 'store'}", "runner.devices=cpu"])
    assert said.exit_code == 1
    assert "fail  ffmpeg" in said.output
    assert "-> install" in said.output
    assert said.output.splitlines()[-1].startswith("1 to fix")
