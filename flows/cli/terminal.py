"""What a person sees while a batch runs: a live view in a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tasks.making.progress import Progress, clock
from tasks.secrets import mask

log = logging.getLogger("headstart")
_PLAIN_EVERY_S = 15.0
OnChange = Callable[[Progress], None]


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One record, one line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            said["error"] = mask(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """A line for people."""
        return mask(super().format(record))


class StandardErrorHandler(logging.StreamHandler[Any]):
    """Writes to what standard error is now: the live view puts itself in between and keeps lines off its table.

    Its name begins with a letter on purpose: Prefect replaces handlers whose class is private.
    """

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """It is always the current one."""


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Of what Prefect says on its own, only the address of the run and what went wrong; our closing lines say the rest."""
    if record.name.startswith("prefect.task_runs"):
        return False  # a row that failed is told by us, once
    ours = not record.name.startswith("prefect")
    return ours or record.levelno >= logging.WARNING or record.getMessage().startswith("View at ")


def set_up_logging(*, as_json: bool) -> None:
    """Human lines on standard error, or JSON lines."""
    handler = StandardErrorHandler()
    handler.setFormatter(_JsonLines() if as_json else _Plain("%(levelname)s: %(message)s"))
    handler.addFilter(_is_worth_a_line)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("headstart").setLevel(logging.INFO)


@contextmanager
def live(*, quiet: bool, as_json: bool = False) -> Iterator[OnChange]:
    """Give a function that shows the progress it is called with."""
    if quiet:
        yield lambda _: None
    elif as_json:
        yield _Lines(lambda line: log.info("%s", line))
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _rich_view() as show:
            yield show
    else:
        yield _Lines(_plainly)


class _Lines:
    """A line every so often, for logs and pipes."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            self._say(progress.line())


def _plainly(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextmanager
def _rich_view() -> Iterator[OnChange]:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as view:
        yield lambda progress: view.update(table(progress))


def table(progress: Progress) -> Any:
    """The live view of one moment: priors, rows, steps, time, a bar, and what is being walked right now."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    left = progress.seconds_left
    grid = Table.grid(padding=(0, 2))
    for kind, total in progress.totals.items():
        grid.add_row(f"{kind}s", f"{progress.done[kind]} of {total}")
    if progress.cached:
        grid.add_row("cached", f"{progress.cached} more were already there")
    if progress.failed:
        grid.add_row("failed", Text(str(progress.failed), style="red"))
    grid.add_row("steps", f"{progress.steps_run} of {progress.steps_total}")
    grid.add_row("time", clock(progress.seconds) + (f", about {clock(left)} left" if left is not None else ""))
    bar = ProgressBar(total=max(1, progress.steps_total), completed=progress.steps_run, width=48)
    # A copy first: other threads add and remove while we look.
    now = "  ".join(list(dict(progress.current).values())[:3])
    return Group(grid, bar, Text(now, style="dim", no_wrap=True, overflow="ellipsis"))
