"""A process that has imported the model libraries once, and starts each command of `headstart` as a fork of itself.

Most of what a command of a tiny batch costs is their import. All else is as in a process of its own: arguments, folder,
environment, output, signals, exit status.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = """
import httpx, hydra.compose, imageio_ffmpeg, jinja2, peft, PIL.Image, pyarrow.dataset, pyarrow.parquet, pydantic
import rich, safetensors.torch, torch, typer
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler, WanPipeline
from diffusers import WanTransformer3DModel
from transformers import AutoTokenizer, UMT5EncoderModel
"""


class Prepared:
    """The prepared process, from outside."""

    def __init__(self):
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._turn = threading.Lock()

    def ask(self, **request):
        """Ask for one thing, and wait for the answer."""
        with self._turn:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def start(self, arguments, folder, environment):
        return Command(self, arguments, folder, environment)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(60)


class Command:
    """One `headstart` on its way, handled as a subprocess.Popen is."""

    def __init__(self, prepared, arguments, folder, environment):
        self.args, self.returncode, self._prepared = ["headstart", *arguments], None, prepared
        number = len(list(folder.glob("said.*")))
        self._said = [folder / f"said.{number}.{name}" for name in ("out", "err")]
        for path in self._said:
            path.touch()
        self.pid = prepared.ask(
            start=self.args, folder=str(folder), environment=environment, said=[str(path) for path in self._said]
        )

    def poll(self):
        if self.returncode is None:
            self.returncode = self._prepared.ask(ended=self.pid)
        return self.returncode

    def wait(self, timeout=600):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout=600):
        self.wait(timeout)
        return tuple(path.read_text() for path in self._said)

    def send_signal(self, number):
        if self.poll() is None:  # until it is asked for its end, its number is nobody else's
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def _serve():
    """Answer until nobody asks any more. Returns in a fork alone: with what it is to run."""
    for line in sys.stdin:
        request = json.loads(line)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                return request
        print(json.dumps(answer), flush=True)
    os._exit(0)


def _become(request):
    for number, path in enumerate([os.devnull, *request["said"]]):
        descriptor = os.open(path, os.O_RDWR)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = request["start"]
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    # An interrupt of the tests ends them, and with them this; those that are meant for a command go to it alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exec(LIBRARIES)
    gc.freeze()  # or each fork looks through all of it at its end
    _become(_serve())
    with contextlib.suppress(ImportError):
        sys.path.remove(str(Path(__file__).parent))
    from flows.cli.main import main

    main()
