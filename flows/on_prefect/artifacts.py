"""What a batch shows in the Prefect UI: a progress bar that moves, a summary table, the report, the settings.

The UI is a window, not a record: when it cannot be written to, the batch goes on and the log says so.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flows.cli.show import settings_yaml
from flows.cli.terminal import OnChange
from flows.graph.batch import BatchResult
from flows.prepare import Prepared
from tasks.making.progress import Progress
from tasks.pages.media import thumbnail
from tasks.planning.work import RowResult

log = logging.getLogger("headstart")
_EVERY_S = 1.0
_IDENTITIES_SHOWN, _VARIANTS_SHOWN = 6, 6


@dataclass
class Watcher:
    """Passes progress on to the UI, not more often than it can take, and hears when a person cancels the run there."""

    artifact: UUID | None
    beside: OnChange | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _last: float = 0.0

    def on_change(self, progress: Progress) -> None:
        """Called by the driver whenever something changed, and twice a second at least."""
        if self.beside is not None:
            self.beside(progress)
        if self.artifact is None or time.monotonic() - self._last < _EVERY_S:
            return
        self._last = time.monotonic()
        self.show(100 * progress.steps_run / max(1, progress.steps_total))

    def show(self, percent: float) -> None:
        """Move the bar."""
        from prefect.artifacts import update_progress_artifact

        if self.artifact is not None:
            _kindly(lambda: update_progress_artifact(artifact_id=self.artifact, progress=min(100.0, percent)))


@contextmanager
def watch_progress(to_do: str, beside: OnChange | None = None) -> Iterator[Watcher]:
    """A progress artifact for as long as a batch or a study runs."""
    from prefect.artifacts import create_progress_artifact

    made = _kindly(lambda: create_progress_artifact(progress=0.0, key="progress", description=to_do))
    watcher = Watcher(artifact=made, beside=beside)
    with _hearing_cancels(watcher.stop):
        yield watcher
    if not watcher.stop.is_set():
        watcher.show(100.0)


@contextmanager
def _hearing_cancels(stop: threading.Event) -> Iterator[None]:
    """Set `stop` when this run is cancelled in the UI: a run that a shell started has nobody else who would tell it."""
    from prefect.runtime import flow_run

    over = threading.Event()
    listener = threading.Thread(
        target=_listen, args=(UUID(str(flow_run.id)), stop, over), name="headstart-cancel", daemon=True
    )
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join(timeout=_EVERY_S)


def _listen(run: UUID, stop: threading.Event, over: threading.Event) -> None:
    from prefect import get_client
    from prefect.client.schemas.objects import StateType

    with get_client(sync_client=True) as client:
        while not over.wait(_EVERY_S):
            try:
                state = client.read_flow_run(run).state
            except Exception as error:  # noqa: BLE001  as `_kindly`; the next look may find the server again
                log.debug("the Prefect server does not say whether this run was cancelled: %s", error)
                continue
            if state is not None and state.type in {StateType.CANCELLING, StateType.CANCELLED}:
                log.warning("cancelled in the Prefect UI; stopping at the next step")
                stop.set()
                return


def publish_summary(prepared: Prepared, result: BatchResult) -> None:
    """The table, the pictures, the settings."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    table = [{"what": what, "value": value} for what, value in summary_rows(prepared, result)]
    _kindly(lambda: create_table_artifact(table=table, key="summary", description=f"Batch {result.batch}"))
    _kindly(
        lambda: create_markdown_artifact(
            markdown=_markdown(prepared, result), key="report", description="Report, failures and settings"
        )
    )


def summary_rows(prepared: Prepared, result: BatchResult) -> list[tuple[str, str]]:
    """What is worth knowing of a batch, in the order in which people ask."""
    made = [row for row in result.results if row.kind == "variant" and row.status == "done"]
    busy = sum(row.seconds.get("denoise", 0.0) + row.seconds.get("decode", 0.0) for row in result.results)
    a_variant = sum(sum(row.seconds.values()) for row in made) / len(made) if made else None
    failed = sum(row.kind == "variant" for row in result.failed)
    return [
        ("rows", str(result.rows)),
        ("done now", str(result.done)),
        ("cached", str(result.cached)),
        ("failed", str(failed)),
        ("steps run", f"{result.steps_run}, priors included"),
        ("steps saved", savings(prepared, result)),
        ("device seconds", f"{busy:.1f}"),
        ("seconds a variant", "-" if a_variant is None else f"{a_variant:.2f}"),
        ("wall seconds", f"{result.seconds:.1f}"),
    ]


def savings(prepared: Prepared, result: BatchResult) -> str:
    """What starting from priors saved, against full runs of the same rows; the priors' own steps are paid in it."""
    made = sum(row.kind == "variant" and row.status == "done" for row in result.results)
    scratch = prepared.plan.full_steps * made
    if not scratch:
        return "-"
    saved = scratch - result.steps_run
    return f"{saved} of {scratch} ({100 * saved / scratch:.0f} %)"


def _markdown(prepared: Prepared, result: BatchResult) -> str:
    failures = "".join(
        f"- **{_plain(row.row_id or row.identity)}**: {_plain(row.error or '')}\n" for row in result.failed[:50]
    )
    pictures = _thumbnails(prepared, result)
    settings = settings_yaml(prepared.settings.model_dump(mode="json"))
    return (
        f"# {result.batch}\n\nReport: `{result.report}` (copy the address: browsers open no file from a web page)\n\n"
        f"Steps saved: {savings(prepared, result)}\n\n{pictures}"
        + (f"## Failed\n\n{failures}\n" if failures else "")
        + f"## Settings\n\n{_fenced(settings)}\n"
    )


def _thumbnails(prepared: Prepared, result: BatchResult) -> str:
    """A contact sheet: a line an identity, the first frames of its variants. Artifacts are rows of a database, so few."""
    made: dict[str, list[RowResult]] = {}
    for row in result.results:
        if row.kind == "variant" and row.status == "done":
            made.setdefault(row.identity, []).append(row)
    lines = []
    for identity, rows in list(made.items())[:_IDENTITIES_SHOWN]:
        pictures = " ".join(filter(None, (_picture(prepared, row) for row in rows[:_VARIANTS_SHOWN])))
        lines.append(f"**{_plain(identity)}**\n\n{pictures}\n\n")
    return "".join(lines)


def _picture(prepared: Prepared, row: RowResult) -> str:
    commit = prepared.store.commit_of("variants", row.key)
    if commit is None:
        return ""
    data = thumbnail(prepared.store.read_file(commit, "preview.png"), 96)
    return f'<img alt="{_plain(row.row_id)}" title="{_plain(row.row_id)}" width="96" src="{data}">'


def _fenced(text: str) -> str:
    """A code block that its own text cannot end."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}yaml\n{text}{fence}"


def _plain(text: str) -> str:
    """Text that neither Markdown nor HTML reads as more than text."""
    for sign, harmless in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&quot;"),
        ("*", "&#42;"),
        ("`", "&#96;"),
        ("_", "&#95;"),
        ("~", "&#126;"),
        ("\\", "&#92;"),
        ("!", "&#33;"),
        ("[", "&#91;"),
        ("\n", " "),
    ):
        text = text.replace(sign, harmless)
    return text


def _kindly(call: Any) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  the UI is a window; the batch does not stop because it is shut
        log.warning("the Prefect UI could not be told: %s", error)
        return None
