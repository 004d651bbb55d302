"""What a person sees while a batch runs: in a terminal, in a pipe, in a log."""

import io
import json
import logging
import re
import sys
import time

import pytest

from flows.cli.terminal import live, set_up_logging
from tasks.making.progress import Progress
from tasks.result import Result

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
RED = "\x1b[31m"


class Screen(io.StringIO):
    """A terminal, as far as a program can tell."""

    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def put_up(stream):
        # Within the test: pytest puts its own stream there between its phases.
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return put_up


@pytest.fixture
def running():
    """Two priors and eight variants: one prior is recorded, a variant made, another failed, a third is on its way."""
    progress = Progress(totals={"prior": 2, "variant": 8}, cached=3, steps_total=44)
    for name, kind, status in (("p", "prior", "done"), ("a", "variant", "done"), ("b", "variant", "failed")):
        progress.ended(Result(id=name, kind=kind, key=name, status=status, steps_run=10 if kind == "prior" else 3))
    progress.step("c", "fox/turns k6", 2, 3)
    return progress


@pytest.fixture
def loggers():
    kept = [(logger, logger.handlers[:], logger.level) for logger in map(logging.getLogger, (None, "headstart"))]
    yield
    for logger, handlers, level in kept:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_a_terminal_shows_what_is_done_and_what_is_on_its_way(screen, running):
    seen = screen(Screen())
    with live(quiet=False) as show:
        show(running)
    shown = ESCAPE.sub("", seen.getvalue())
    for line in (
        r"priors +1 of 2",
        r"variants +1 of 8",
        r"cached +3 more",
        r"failed +1",
        r"steps +16 of 44",
        r"time +0:0\d",
        r"fox/turns k6 step 2/3",
    ):
        assert re.search(line, shown), (line, shown)


def test_colours_are_there_until_they_are_not_wanted(screen, running, monkeypatch):
    seen = screen(Screen())
    with live(quiet=False) as show:
        show(running)
    assert RED in seen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    seen = screen(Screen())
    with live(quiet=False) as show:
        show(running)
    assert RED not in seen.getvalue()
    assert "failed" in seen.getvalue()


@pytest.mark.parametrize(("stream", "terminal"), [(io.StringIO, "xterm"), (Screen, "dumb")])
def test_what_is_no_screen_gets_a_plain_line_every_so_often(screen, running, monkeypatch, stream, terminal):
    monkeypatch.setenv("TERM", terminal)
    seen = screen(stream())
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with live(quiet=False) as show:
        for _ in range(50):
            show(running)
        assert seen.getvalue() == ""
        now += 60
        show(running)
        show(running)
    (line,) = seen.getvalue().splitlines()
    assert not ESCAPE.search(line)
    assert "8" in line


def test_json_lines_are_json_even_with_errors_and_newlines(loggers, running, capsys, monkeypatch):
    set_up_logging(as_json=True)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("headstart").exception('a "quoted"\nmessage')
    with live(quiet=False, as_json=True) as show:
        now = time.monotonic() + 60
        monkeypatch.setattr(time, "monotonic", lambda: now)
        show(running)
    error, progress = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert error["message"] == 'a "quoted"\nmessage'
    assert "ValueError: two" in error["error"]
    assert progress["message"] == running.line()
    assert {"time", "level", "logger"} <= progress.keys()


@pytest.mark.parametrize(
    ("name", "level", "message", "shown"),
    [
        ("prefect.flow_runs", logging.INFO, "View at http://127.0.0.1:4200/runs/flow-run/x", True),
        ("prefect.flow_runs", logging.INFO, "Finished in state Completed()", False),
        ("prefect.flow_runs", logging.ERROR, "Finished in state Failed('boom')", True),
        ("prefect.task_runs", logging.ERROR, "Finished in state Failed('boom')", False),
        ("headstart", logging.INFO, "anything of ours", True),
    ],
)
def test_prefect_speaks_only_when_it_has_something_to_say(loggers, capsys, name, level, message, shown):
    set_up_logging(as_json=False)
    # As a logger of Prefect's does whose records come through whatever their level.
    logging.getLogger().handle(logging.LogRecord(name, level, __file__, 1, message, None, None))
    assert (message in capsys.readouterr().err) == shown


def test_quiet_is_quiet(running, capsys):
    with live(quiet=True) as show:
        show(running)
    assert capsys.readouterr() == ("", "")
