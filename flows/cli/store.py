"""`headstart store ...`: list, show, measure, verify, repair and clean a store. Answers as text or JSON."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from prior_store import Store

app = typer.Typer(
    help="Look into the store, verify it, repair it, clean it up.", no_args_is_help=True, rich_markup_mode=None
)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="settings, e.g. store=s3://bucket/prefix", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="answer as JSON")]
STATUSES = ("done", "failed", "removed")


def _store(overrides: list[str] | None, *, create: bool = False) -> Store:
    from flows.compose import compose_settings
    from prior_store import Store

    settings = compose_settings(overrides or []).store
    return Store.open(
        settings.url, storage_options=settings.storage_options, create=create, verify_hashes=settings.verify_hashes
    )


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")


def _tell_passed_over(store: Store) -> None:
    sys.stderr.writelines(f"note: {text}\n" for text in store.passed_over)


def _known_kind(value: str | None) -> str | None:
    kinds = {"prior": "priors", "variant": "variants"}
    if value is None or value in kinds.values():
        return value
    if value not in kinds:
        raise typer.BadParameter(f"{value!r} is not known; choose one of {sorted(kinds.values())}")
    return kinds[value]


def _known_status(value: str | None) -> str | None:
    if value is not None and value not in STATUSES:
        raise typer.BadParameter(f"{value!r} is not known; choose one of {list(STATUSES)}")
    return value


@app.command("ls")
def list_rows(
    overrides: Overrides = None,
    kind: Annotated[str | None, typer.Option(help="priors or variants", callback=_known_kind)] = None,
    identity: Annotated[str | None, typer.Option(help="only this identity")] = None,
    batch: Annotated[str | None, typer.Option(help="only this batch")] = None,
    status: Annotated[str | None, typer.Option(help="done, failed or removed", callback=_known_status)] = None,
    tag: Annotated[str | None, typer.Option(help="only rows with this tag")] = None,
    limit: Annotated[int, typer.Option(help="show at most so many rows; 0 = all")] = 50,
    as_json: Json = False,
) -> None:
    """List what is in the store, newest first.

    Example: headstart store ls --kind variants --identity fox
    """
    import pyarrow.compute as pc

    from flows.cli.pages.listing import NEEDED, moment, table

    chosen = None
    for column, value in {"kind": kind, "identity": identity, "batch": batch, "status": status}.items():
        if value is not None:
            fits = pc.field(column) == value
            chosen = fits if chosen is None else chosen & fits
    store = _store(overrides)
    rows = store.manifest(chosen, None if as_json else list(NEEDED), past_damage=True).to_pylist()
    _tell_passed_over(store)
    rows = [row for row in rows if tag is None or tag in (row.get("tags") or ())]
    rows.sort(key=moment, reverse=True)
    shown = rows[:limit] if limit else rows
    if as_json:
        _print_json(shown)
        return
    # Into a file or a pipe nothing is cut off.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() or "COLUMNS" in os.environ else None
    sys.stdout.writelines(f"{line}\n" for line in table(shown, width) if shown)
    more = "; --limit 0 lists all" if len(shown) < len(rows) else ""
    sys.stdout.write(f"{len(shown)} of {len(rows)} rows{more}\n")


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="a key or its first digits")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Show one prior or variant. With --json everything: recipe, pins, digests.

    Example: headstart store show 3f2a9c
    """
    from flows.cli.pages.object_page import object_page

    store = _store(overrides)
    commit = store.commit_of(*store.find(key))
    if commit is None:
        raise typer.Exit(1)
    uris = {name: store.uri_of(commit, name) for name in commit.files}
    if as_json:
        _print_json(json.loads(commit.to_json()) | {"uris": uris})
    else:
        sys.stdout.write(object_page(commit, uris))


@app.command()
def du(overrides: Overrides = None, as_json: Json = False) -> None:
    """Show how much space the store takes, and for what.

    Example: headstart store du
    """
    store = _store(overrides)
    used = store.du()
    _tell_passed_over(store)
    if as_json:
        _print_json(used)
        return
    for room, held in used["rooms"].items():
        sys.stdout.write(f"{room:40}{held['files']:>8} files{held['bytes'] / 2**20:>12,.1f} MiB\n")
    for batch, held in used["batches"].items():
        sys.stdout.write(f"{f'batch {batch}'[:40]:40}{held['objects']:>6} objects{held['bytes'] / 2**20:>12,.1f} MiB\n")
    sys.stdout.write(f"{'all':40}{used['bytes'] / 2**20:>26,.1f} MiB\n")


@app.command()
def verify(
    overrides: Overrides = None,
    quick: Annotated[bool, typer.Option("--quick", help="sizes only, no digests")] = False,
    as_json: Json = False,
) -> None:
    """Check that the store is whole: every row has its object, every object its row, all bytes are right. Exit code 1 if not.

    Example: headstart store verify --quick
    """
    report = _store(overrides).verify(quick=quick, progress=_progress if sys.stderr.isatty() else None)
    if as_json:
        _print_json(dataclasses.asdict(report))
    else:
        sys.stdout.write(
            f"{report.objects} objects, {report.files} files, {report.rows} rows, {len(report.problems)} problems\n"
        )
        for problem in report.problems:
            sys.stdout.write(f"{problem.what}: {problem.text}\n")
        if report.problems:
            sys.stdout.write("repair what can be repaired with: headstart store repair\n")
    raise typer.Exit(report.exit_code)


def _progress(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done}/{total} files" + ("\n" if done == total else ""))


@app.command()
def repair(overrides: Overrides = None, as_json: Json = False) -> None:
    """Repair what verify finds. Missing rows are written again, damaged objects go into quarantine; nothing is deleted.

    Example: headstart store repair
    """
    done = _store(overrides).repair()
    if as_json:
        _print_json(dataclasses.asdict(done))
    else:
        sys.stdout.write("".join(f"{action}\n" for action in done.actions))
        sys.stdout.write(f"{len(done.before.problems)} problems before, {len(done.after.problems)} after\n")
    raise typer.Exit(done.after.exit_code)


@app.command("import")
def import_store(
    url: Annotated[str, typer.Argument(help="folder or URL of the store to copy from; it is not changed")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Copy what another store has and this one lacks. Exit code 1 if something could not be copied.

    Example: headstart store import s3://team/headstart store=headstart-store
    """
    from prior_store import Store

    done = _store(overrides, create=True).import_from(Store.open(url, create=False))
    if as_json:
        _print_json(dataclasses.asdict(done))
    else:
        sys.stdout.write(
            f"{done.priors} priors, {done.variants} variants and {done.embeddings} embeddings copied "
            f"({done.bytes / 2**20:,.1f} MiB), {done.there} already there, {len(done.refused)} refused\n"
        )
        sys.stdout.write("".join(f"refused: {text}\n" for text in done.refused))
    raise typer.Exit(done.exit_code)


@app.command()
def gc(
    overrides: Overrides = None,
    delete: Annotated[bool, typer.Option("--delete", help="remove; without it nothing is touched")] = False,
    grace_hours: Annotated[float, typer.Option(help="keep everything younger than this")] = 24.0,
    older_than_days: Annotated[float | None, typer.Option(help="also finished objects older than this")] = None,
    batch: Annotated[list[str] | None, typer.Option(help="also finished objects of this batch")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="also finished objects with this tag")] = None,
    unused_steps: Annotated[
        bool, typer.Option("--unused-steps", help="also snapshots that no variant started from")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what could be removed; with --delete remove it. Abandoned attempts always, finished objects only on request.

    Example: headstart store gc --batch old-batch --delete
    """
    from prior_store.care.gc import Retention

    retention = Retention(
        older_than_s=None if older_than_days is None else older_than_days * 86400, batches=batch or (), tags=tag or ()
    )
    found = _store(overrides).gc(
        dry_run=not delete, grace_s=grace_hours * 3600, retention=retention, unused_steps=unused_steps
    )
    if as_json:
        _print_json({"deleted": delete, "items": [dataclasses.asdict(item) for item in found.items]})
        return
    for item in found.items:
        sys.stdout.write(f"{item.bytes:>12}  {item.why:40}{item.path}\n")
    word = "removed" if delete else "could be removed; nothing was touched, remove with --delete"
    sys.stdout.write(f"{len(found.items)} files, {found.bytes / 2**20:,.1f} MiB {word}\n")


@app.command()
def compact(overrides: Overrides = None) -> None:
    """Merge the manifest's many small files into one. Safe while batches run.

    Example: headstart store compact
    """
    done = _store(overrides).compact()
    sys.stdout.write(f"{len(done.absorbed)} manifest files merged into one, {done.rows} rows\n")
