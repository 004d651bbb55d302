"""A program `headstart` for a shell whose commands are forks of the prepared process: as quick as if it were there already.

    python forked.py SOCKET argument...

asks for one command with this folder and environment, whose output goes where this process's own would go.
"""

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

SCRIPT = """#!/bin/sh
exec {python} -I -S {program} {address} "$@"
"""


@contextlib.contextmanager
def on_path(folder, prepared):
    """Put it into a folder, and answer it."""
    address = folder / "asked"
    script = folder / "headstart"
    script.write_text(SCRIPT.format(python=sys.executable, program=__file__, address=address))
    script.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listening:
        # The whole path may be longer than a socket's may be.
        entry = os.open(folder, os.O_DIRECTORY)
        listening.bind(f"/proc/self/fd/{entry}/{address.name}")
        listening.listen()
        answering = threading.Thread(target=_answer, args=(listening, prepared))
        answering.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            answering.join()
            os.close(entry)


def _answer(listening, prepared):
    while True:
        try:
            asking, _ = listening.accept()
        except OSError:  # it was shut
            return
        with asking, asking.makefile("rw") as lines:
            pid = prepared.ask(**json.loads(lines.readline()))
            while (ended := prepared.ask(ended=pid)) is None:
                threading.Event().wait(0.02)
            lines.write(f"{ended}\n")


def _ask(address, arguments):
    request = {
        "start": ["headstart", *arguments],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "said": [f"/proc/{os.getpid()}/fd/{number}" for number in (1, 2)],
    }
    with socket.socket(socket.AF_UNIX) as asking:
        os.chdir(Path(address).parent)
        asking.connect(Path(address).name)
        with asking.makefile("rw") as lines:
            lines.write(json.dumps(request) + "\n")
            lines.flush()
            return int(lines.readline())


if __name__ == "__main__":
    code = _ask(sys.argv[1], sys.argv[2:])
    # As a shell tells a signal.
    sys.exit(code if code >= 0 else 128 - code)
