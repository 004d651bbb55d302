"""What to say of a command that was not understood."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any


def help_instead(error: Any) -> str | None:
    """A verb group alone is answered with its help."""
    return str(error.format_message()) if type(error).__name__ == "NoArgsIsHelpError" else None


def usage_message(error: Any, words: Sequence[str]) -> str | None:
    """One sentence, or None when this is no error of usage. `words` is the command as it was typed."""
    # Typer carries its own copy of click, so its errors are known by what they can do, not by their class.
    tell = getattr(error, "format_message", None)
    if tell is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "headstart"
    if type(error).__name__ == "NoSuchOption":
        return f"there is no option {error.option_name}{_instead(error, words)}; `{command} --help` lists all"
    said = (
        re.sub(r"\. Did you mean (.*)\?$", r" (did you mean \1?)", str(tell()))
        .replace(": Value error,", ":")
        .rstrip(".")
    )
    return f"{said[:1].lower()}{said[1:]}; see `{command} --help`"


def _instead(error: Any, words: Sequence[str]) -> str:
    from flows.compose import GROUPS, known_settings
    from flows.meant import meant

    known = [*(key for key, _ in known_settings()), *GROUPS]
    setting = meant(error.option_name, known) if error.option_name.startswith("--") else None
    near = difflib.get_close_matches(error.option_name, error.possibilities or (), n=1, cutoff=0.75)
    if near and setting != error.option_name.lstrip("-").replace("-", "_"):
        return f" (did you mean {near[0]}?)"
    if setting is None:
        return ", and settings are written as key=value, without dashes: sheet=my.csv"
    return f"; settings are written without dashes: {setting}={_value(error.option_name, words)}"


def _value(option: str, words: Sequence[str]) -> str:
    for word, following in zip(words, [*words[1:], "-"], strict=True):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and not following.startswith("-"):
            return following
    return "..."
