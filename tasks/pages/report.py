"""Writes the report of a batch: report.html and report.json in the store, or one page with all media inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_store.layout import BATCHES, batch_path
from tasks.errors import PlanError
from tasks.pages.document import report_document

if TYPE_CHECKING:
    from prior_store import Store

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True, slots=True)
class Written:
    """Where the page of a batch is, and the figures on it."""

    uri: str
    summary: Mapping[str, Any]


def write_report(store: Store, batch: str | None) -> Written:
    """Write both files."""
    name = batch or latest_batch(store)
    document = report_document(store, name)
    store.put_batch_file(name, "report.json", json.dumps(document, ensure_ascii=False, indent=1).encode())
    store.put_batch_file(name, "report.html", page(document).encode())
    return Written(store.uri(batch_path(name, "report.html")), document["summary"])


def write_single_file(store: Store, batch: str | None, out: Path | None) -> Path:
    """Write the page with every video inside, to be sent to somebody who has no access to the store."""
    from tasks.pages.media import with_media

    name = batch or latest_batch(store)
    target = out or Path(f"{name}.html")
    text = page(with_media(report_document(store, name), store))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PlanError(
            f"the report cannot be written to {str(target)!r}: {error}; name another place: --out FILE"
        ) from error
    return target.resolve()


def latest_batch(store: Store) -> str:
    """The batch that was launched last: names begin with the sheet's, so the time of its plan decides."""
    plans = {path: entry for path, entry in store.files.find(BATCHES).items() if path.endswith("/plan.json")}
    if not plans:
        raise PlanError(f"the store {store.url!r} holds no batch yet; make one: headstart run sheet=demo")
    return max(plans, key=lambda path: (plans[path].modified, path)).split("/")[-2]


def page(document: Mapping[str, Any]) -> str:
    """report.html."""
    return rendered("report.html.j2", report=document)


def rendered(template: str, **values: Any) -> str:
    """A page: one file, no request to anywhere, prompts shown as text whatever they hold."""
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
