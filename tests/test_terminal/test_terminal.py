"""What a person reads while a batch runs and when it ends."""

import io
import json
import logging
import re
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from flows.cli import terminal
from flows.cli.run import closing
from flows.graph.batch import BatchResult
from tasks.making.progress import Progress
from tasks.planning.work import RowResult

COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7][;m]")


def progress(**more):
    values = {
        "priors_total": 2, "variants_total": 8, "cached": 3, "priors_done": 1, "variants_done": 4, "failed": 1,
        "steps_total": 100, "steps_run": 25, "steps_saved": 28, "full_steps": 10,
        "current": {"fox/turns k6": "fox/turns k6 step 2/3"},
    }  # fmt: skip
    return Progress(**{**values, **more})


def drawn(monkeypatch, **environment):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, color_system="standard", width=80).print(terminal.table(progress()))
    return screen.getvalue()


def test_the_live_view_tells_all_that_is_asked_of_it(monkeypatch):
    shown = re.sub(r"\x1b\[[0-9;]*m", "", drawn(monkeypatch))
    for piece in ("1/2", "4/8 made, 3 were there", "failed", "25/100 run, 28 saved", "left", "fox/turns k6 step 2/3"):
        assert piece in shown


def test_no_color_is_honoured(monkeypatch):
    assert COLOUR.search(drawn(monkeypatch))
    assert not COLOUR.search(drawn(monkeypatch, NO_COLOR="1"))


@pytest.fixture
def loggers():
    root, ours = logging.getLogger(), logging.getLogger("headstart")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def test_json_lines_are_json_even_with_errors_and_newlines(loggers, capsys):
    terminal.set_up_logging(as_json=True)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("headstart").exception('a "quoted"\nmessage')
    with terminal.live(quiet=False, as_json=True) as show:
        show._last = -1e9
        show(progress())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0]["message"] == 'a "quoted"\nmessage'
    assert "ValueError: two" in lines[0]["error"]
    assert "variants 4/8" in lines[1]["message"]
    assert {"time", "level", "logger"} <= lines[1].keys()


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
    terminal.set_up_logging(as_json=False)
    for handler in logging.getLogger().handlers:
        record = logging.LogRecord(name, level, __file__, 1, message, None, None)
        if handler.filter(record):
            handler.handle(record)
    assert (message in capsys.readouterr().err) == shown


def test_plain_lines_come_every_so_often_and_not_at_every_step(capsys):
    with terminal.live(quiet=False) as show:
        for _ in range(50):
            show(progress())
        assert capsys.readouterr().err == ""
        show._last -= terminal._PLAIN_EVERY_S
        show(progress())
        show(progress())
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with terminal.live(quiet=False) as show:
        assert isinstance(show, terminal._Lines)


def test_quiet_is_quiet(capsys):
    with terminal.live(quiet=True) as show:
        show(progress())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_closing_lines_say_where_what_and_how_to_go_on(interrupted):
    results = [
        RowResult(
            kind="variant", key=f"k{number}", row_id=f"row-{number}", identity="fox", status="failed", error="why"
        )
        for number in range(9)
    ]
    prepared = SimpleNamespace(
        plan=SimpleNamespace(sheet_name="my.csv", steps_from_scratch=90),
        store=SimpleNamespace(url="file:///store"),
        nothing_to_do=False,
        only="all",
    )
    result = BatchResult(
        batch="b", results=tuple(results), rows=12, cached=1, report="file:///store/report.html", seconds=61.0,
        steps_run=40, steps_saved=14, interrupted=interrupted, over_limit=False,
    )  # fmt: skip
    text = closing(prepared, result, "http://127.0.0.1:4200", ["sheet=my.csv"])
    assert len(text.splitlines()) <= 10
    for piece in (
        "file:///store/report.html",
        "http://127.0.0.1:4200",
        "row-0: why",
        "and 7 more",
        "headstart run sheet=my.csv",
    ):
        assert piece in text
