"""Runs the command line twice, and prints the project's files in the order in which the second run first entered them.

The first run imports what is heavy and records the prior, so that what is watched is one row and nothing else.
"""

import contextlib
import json
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("flows", "tasks", "prior_engine", "prior_store")
OPTIMIZED = 0x2  # a function, not a module or a class body
seen: dict[str, None] = {}


def entered(frame, event, _argument):
    code = frame.f_code
    if event != "call" or not code.co_flags & OPTIMIZED or code.co_name.startswith(("<", "__init__")):
        return
    path = code.co_filename
    if path.startswith(f"{ROOT}/"):
        place = path.removeprefix(f"{ROOT}/")
        if place.split("/")[0] in ROOMS:
            seen.setdefault(place)


def run(sheet, settings):
    from flows.cli.main import main

    sys.argv = ["headstart", "run", sheet, *settings]
    with contextlib.suppress(SystemExit):
        main()


if __name__ == "__main__":
    first, second, *settings = sys.argv[1:]
    run(first, settings)
    threading.setprofile(entered)
    sys.setprofile(entered)
    run(second, settings)
    sys.setprofile(None)
    sys.stdout.write("@" + json.dumps(list(seen)))
