"""Answers that need no run: settings as YAML, the list of keys, a report written again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.compose import choices, compose_settings, known_settings
from tasks.errors import PlanError
from tasks.planning.document import settings_yaml
from tasks.planning.models.source import filled, left_open


def show_config(overrides: Sequence[str]) -> str:
    """The resolved settings as YAML, the same text that is kept with a batch."""
    settings = compose_settings(overrides)
    try:
        found = filled(settings)
    except PlanError:
        return settings_yaml(settings)  # the model is not here yet
    return settings_yaml(found, {f"model.{name}": "as its family has it" for name in left_open(settings.model)})


def show_keys() -> str:
    """One line a setting: key, default, meaning."""
    lines = []
    for key, field in known_settings():
        default = field.get_default(call_default_factory=True)
        lines.append(f"{key:34} {default!r:34} {field.description}")
    lines.append("")
    lines += [f"{group}= one of {choices(group)}" for group in ("model", "schedule", "accel", "prior", "experiment")]
    return "\n".join(lines) + "\n"


def write_report_again(
    batch: str | None, overrides: Sequence[str], *, single_file: bool = False, out: str | None = None
) -> str:
    """Make the report of a batch anew and say where it is."""
    from tasks.making.runtime import open_store
    from tasks.pages.report import write_report, write_single_file

    if batch is not None and "=" in batch:
        overrides, batch = [batch, *overrides], None
    store = open_store(compose_settings(overrides))
    if single_file or out:
        return str(write_single_file(store, batch, Path(out) if out else None))
    return write_report(store, batch).uri
