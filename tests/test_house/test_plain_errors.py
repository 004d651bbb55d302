"""What is missing on a machine is told in one sentence, with an exit code that a script can see, before anything is run."""

import ctypes
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[2]
SHEET = "identity,prompt,base_prompt,seed\nstar,a red star grows,a red star stays still,7\nstar,a red star falls,,7\n"
DROP_FROM_BOUNDS, OVERRIDE_RIGHTS = 24, 1


def bound_by_rights():
    """The administrator may write anywhere; a child without this capability may not."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(DROP_FROM_BOUNDS, OVERRIDE_RIGHTS)


@pytest.fixture
def told(tmp_path):
    """`told(argument...)` runs the command line and gives the one sentence that it ends with."""
    (tmp_path / "my.csv").write_text(SHEET)

    def run(*arguments, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=tmp_path, env={**clean, "HEADSTART_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), **environment},
            capture_output=True, text=True, timeout=600, preexec_fn=bound_by_rights,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        (sentence,) = done.stderr.splitlines()
        assert sentence.startswith("headstart: ")
        return sentence

    return run


@pytest.mark.parametrize("runs", [False, True])
def test_no_ffmpeg(told, tmp_path, runs):
    program = tmp_path / "ffmpeg"
    if runs:
        program.write_text("#!/bin/sh\necho ' V..... mpeg4'\n")
        program.chmod(0o755)
    said = told("run", "sheet=my.csv", "server=none", "store=store", IMAGEIO_FFMPEG_EXE=str(program))
    assert str(program) in said
    assert "export IMAGEIO_FFMPEG_EXE=" in said
    assert not (tmp_path / "store" / "priors").exists(), "no step was walked for a video that nobody can write"


def test_a_store_below_a_file(told, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file/store" in told("run", "sheet=my.csv", "server=none", "store=file/store")


@pytest.mark.parametrize("below", ["", "/new"])
def test_a_folder_that_may_not_be_written(told, tmp_path, below):
    (tmp_path / "folder").mkdir(mode=0o555)
    said = told("run", "sheet=my.csv", "server=none", f"store=folder{below}")
    assert "refuses access" in said
    assert "check the rights" in said


def test_a_store_that_may_only_be_read(told, tmp_path):
    from prior_store import Store

    Store.open(tmp_path / "store")
    for path in [tmp_path / "store", *(tmp_path / "store").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert "can be read but not written" in told("run", "sheet=my.csv", "server=none", "store=store")


def test_a_state_folder_that_may_not_be_written(told, tmp_path):
    (tmp_path / "folder").mkdir(mode=0o555)
    said = told("run", "sheet=my.csv", "store=store", HEADSTART_HOME=str(tmp_path / "folder" / "home"))
    assert "HEADSTART_HOME" in said
    assert "server=none" in said


@pytest.mark.parametrize("verb", [("run", "sheet=my.csv", "store=store"), ("ui", "start")])
def test_all_ports_in_use(told, verb):
    held = []
    try:
        for port in range(4940, 4960):
            taken = socket.socket()
            held.append(taken)
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", port))
            taken.listen()
        said = told(*verb, "server.port=4940")
        assert re.search(r"ports 4940 to 4959 are all in use; name another: server.port=\d+", said)
    finally:
        for taken in held:
            taken.close()


@pytest.mark.skipif(shutil.which("make") is None, reason="NOT PROVEN HERE: no make on this machine")
@pytest.mark.parametrize(
    ("version", "says"),
    [
        ((3, 10), "Headstart needs Python 3.11 or 3.12, found 3.10; run: make setup PYTHON=python3.11"),
        ((3, 13), "Headstart needs Python 3.11 or 3.12, found 3.13; run: make setup PYTHON=python3.11"),
        (None, "was found; Headstart needs Python 3.11 or 3.12, run: make setup PYTHON=python3.11"),
    ],
)
def test_a_wrong_python_makes_no_environment(tmp_path, version, says):
    python = tmp_path / "another-python"
    if version:
        # This interpreter, which says that it is of another version.
        python.write_text(
            f"#!{sys.executable}\nimport sys\nsys.version_info = (*{version}, 0, 'final', 0)\nexec(sys.argv[2])\n"
        )
        python.chmod(0o755)
    done = subprocess.run(
        ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
        cwd=ROOT, env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make")]
    assert len(lines) == 1
    assert lines[0].endswith(says)
    assert not (tmp_path / "venv").exists()
