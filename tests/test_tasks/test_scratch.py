"""Folders on the way into the store: those of the dead go, those of the living stay."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tasks.making.scratch import scratch_folder, sweep_scratch

pytestmark = pytest.mark.process
ROOT = Path(__file__).parents[2]
USE = """
import sys, time
from tasks.making.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "video.mp4").write_bytes(b"half")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def used(temporary):
    """A process in the middle of its work, and its folder."""
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", USE], env=environment, stdout=subprocess.PIPE, text=True)
    yield process, Path(process.stdout.readline().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_kill_leaves_goes_with_the_next_run_and_not_before(used, temporary):
    process, folder = used
    (temporary / "headstart-of-somebody").mkdir()
    sweep_scratch()
    assert (folder / "video.mp4").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (folder / "video.mp4").exists()
    sweep_scratch()
    assert [path.name for path in temporary.iterdir()] == ["headstart-of-somebody"]


def test_nothing_is_left_after_an_error(temporary):
    with pytest.raises(ZeroDivisionError), scratch_folder() as folder:  # noqa: PT012
        assert folder.parent == temporary
        sweep_scratch()
        (folder / "video.mp4").write_bytes(b"")
        _ = 1 // 0
    assert list(temporary.iterdir()) == []
