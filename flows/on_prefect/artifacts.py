"""What a finished batch shows in the Prefect UI: a summary table, pictures, failures, the settings."""

from __future__ import annotations

from flows.graph.batch import BatchResult
from flows.on_prefect.shown import Shown
from flows.prepare import Prepared
from tasks.pages.media import thumbnail
from tasks.planning.document import settings_yaml
from tasks.result import Result

_IDENTITIES_SHOWN, _VARIANTS_SHOWN = 6, 6


def publish_summary(prepared: Prepared, result: BatchResult, shown: Shown) -> None:
    """The table, the pictures, the settings."""
    table = [{"what": what, "value": value} for what, value in summary_rows(result)]
    shown.publish("table", "summary", table, f"Batch {result.batch}")
    shown.publish("markdown", "report", _markdown(prepared, result), "Report, failures and settings")


def summary_rows(result: BatchResult) -> list[tuple[str, str]]:
    """What is worth knowing of a batch, in the order in which people ask."""
    made = [row for row in result.results if row.kind == "variant" and row.status == "done"]
    busy = sum(row.seconds.get("denoise", 0.0) + row.seconds.get("decode", 0.0) for row in result.results)
    a_variant = sum(row.work_seconds for row in made) / len(made) if made else None
    return [
        ("rows", str(result.rows)),
        ("done now", str(result.done)),
        ("cached", str(result.cached)),
        ("failed", str(len(result.failed_rows))),
        ("steps run", f"{result.steps_run}, priors included"),
        ("steps saved", savings(result)),
        ("device seconds", f"{busy:.1f}"),
        ("seconds per variant", "-" if a_variant is None else f"{a_variant:.2f}"),
        ("wall seconds", f"{result.seconds:.1f}"),
    ]


def savings(result: BatchResult) -> str:
    """What starting from priors saves, as the report has it: against full runs of the same videos, the priors paid."""
    saved, full = result.summary["steps_saved"], result.summary["scratch_steps"]
    return f"{saved} of {full} ({100 * saved / full:.0f} %)" if full else "-"


def _markdown(prepared: Prepared, result: BatchResult) -> str:
    failures = "".join(f"- **{_plain(row.name)}**: {_plain(row.error or '')}\n" for row in result.failed[:50])
    pictures = _thumbnails(prepared, result)
    settings = settings_yaml(prepared.settings)
    return (
        f"# {result.batch}\n\nReport: `{result.report}` (copy the address: browsers open no file from a web page)\n\n"
        f"Steps saved: {savings(result)}\n\n{pictures}"
        + (f"## Failed\n\n{failures}\n" if failures else "")
        + f"## Settings\n\n{_fenced(settings)}\n"
    )


def _thumbnails(prepared: Prepared, result: BatchResult) -> str:
    """A contact sheet: a line an identity, the first frames of its variants. Artifacts are rows of a database, so few."""
    made: dict[str, list[Result]] = {}
    for row in result.results:
        if row.kind == "variant" and row.status == "done":
            made.setdefault(row.identity, []).append(row)
    lines = []
    for identity, rows in list(made.items())[:_IDENTITIES_SHOWN]:
        pictures = " ".join(filter(None, (_picture(prepared, row) for row in rows[:_VARIANTS_SHOWN])))
        lines.append(f"**{_plain(identity)}**\n\n{pictures}\n\n")
    return "".join(lines)


def _picture(prepared: Prepared, row: Result) -> str:
    commit = prepared.store.commit_of("variants", row.key)
    if commit is None:
        return ""
    data = thumbnail(prepared.store.read_file(commit, "preview.png"), 96)
    return f'<img alt="{_plain(row.id)}" title="{_plain(row.id)}" width="96" src="{data}">'


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
