"""The words of a command: settings as key=value, or the bare name of a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def spelt_out(words: list[str] | None) -> list[str]:
    """A word that can only be a sheet stands for sheet=WORD."""
    from tasks.errors import SettingsError

    named = [word for word in words or () if _is_sheet(word)]
    if len(named) > 1:
        raise SettingsError(
            f"{len(named)} sheets are named, {named}; one batch has one sheet, run them one after the other"
        )
    return [f"sheet={word}" if word in named else word for word in words or ()]


def _is_sheet(word: str) -> bool:
    from tasks.sheets.formats.file import FORMATS, WORKBOOKS

    if "=" in word:
        return False
    return word in {"demo", "-"} or Path(word).suffix.lower() in {*FORMATS, *WORKBOOKS} or Path(word).is_file()


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="a sheet, and settings as key=value or group=choice, e.g. my.csv schedule.num_inference_steps=20",
        show_default=False,
        callback=spelt_out,
    ),
]
JsonLogs = Annotated[bool, typer.Option("--json-logs", help="log as JSON lines")]
Json = Annotated[bool, typer.Option("--json", help="answer as JSON")]
