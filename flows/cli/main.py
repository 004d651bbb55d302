"""The command line. Every verb imports what it needs when it runs, so that help and completion answer at once."""

from __future__ import annotations

import sys
from typing import Annotated, Literal, NoReturn

import typer

from flows.cli.exit_codes import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, EXIT_SOME_FAILED
from flows.cli.models import app as models_app
from flows.cli.store import app as store_app
from flows.cli.typed.arguments import Json, JsonLogs, Overrides
from flows.cli.ui import app as ui_app

app = typer.Typer(
    name="headstart",
    help="Give every video variant a head start: record one full run per identity, start all variants from one of its steps.",
    epilog="Exit codes: 0 all done; 1 some rows failed; 2 the input was wrong and nothing ran; 130 interrupted, finished rows are kept.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ui_app, name="ui")
app.add_typer(store_app, name="store")
app.add_typer(models_app, name="models")


def main() -> NoReturn:
    """Run the command line; mistakes of the user end in one clear message, never in a traceback."""
    from tasks.errors import BatchError

    try:
        # Outside of standalone mode an exit code comes back as the value.
        code = app(prog_name="headstart", standalone_mode=False)
    except KeyboardInterrupt:
        _say("interrupted; what was finished is kept, run the same command again to continue")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except BatchError as error:
        _fail(str(error))
    except Exception as error:  # the last door: decide whether this is a message for a person or a fault of ours
        from flows.cli.typed.usage import help_instead, usage_message

        if (text := help_instead(error)) is not None:
            _say(text)
            raise SystemExit(EXIT_BAD_INPUT) from None
        usage = usage_message(error, sys.argv[1:])
        if usage is not None:
            _fail(usage)
        if _speaks_for_itself(error):
            _fail(str(error))
        raise
    raise SystemExit(code if isinstance(code, int) else EXIT_DONE)


def _speaks_for_itself(error: Exception) -> bool:
    """Errors of engine and store speak for themselves."""
    return any(kind.__name__ in {"EngineError", "StoreError"} for kind in type(error).__mro__)


def _say(text: str) -> None:
    from tasks.secrets import mask

    sys.stderr.write(mask(text) + "\n")


def _fail(text: str) -> NoReturn:
    _say(f"headstart: {text}")
    raise SystemExit(EXIT_BAD_INPUT)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from flows.cli.version import version_line

        typer.echo(version_line())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="print the versions in use")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    overrides: Overrides = None,
    json_logs: JsonLogs = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the summary")] = False,
    only: Annotated[
        Literal["all", "priors", "variants"],
        typer.Option(help="priors: record priors, make no variants; variants: make variants of existing priors only"),
    ] = "all",
) -> None:
    """Make every row of a sheet that the store lacks.

    Example: headstart run my.csv model=demo schedule.num_inference_steps=10
    """
    from flows.cli.run import run as run_batch

    raise typer.Exit(run_batch(overrides or [], json_logs=json_logs, quiet=quiet, only=only))


@app.command()
def plan(overrides: Overrides = None, as_json: Json = False) -> None:
    """Show what `run` would do, without doing it. What exists, what is missing, the steps, the time and the disk space.

    Example: headstart plan my.csv
    """
    from flows.cli.run import show_plan

    raise typer.Exit(show_plan(overrides or [], as_json=as_json))


@app.command()
def inflection(
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the answer")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="keep the answer for start_step=auto even from fewer than 5 pairs")
    ] = False,
) -> None:
    """Measure which start step and tail to use. A few rows are enough; start_step=auto then uses the answer.

    Example: headstart inflection my.csv inflection.pairs=12
    """
    from flows.cli.study import study

    lines = [*(overrides or []), *(["inflection.force=true"] if force else [])]
    raise typer.Exit(study(lines, as_json=as_json, quiet=quiet))


@app.command()
def calibrate(
    overrides: Overrides = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress, only the answer")] = False,
) -> None:
    """Measure what accel.cache=mag needs to know of the model. A few full runs are enough; the cache then uses the answer.

    Example: headstart calibrate my.csv calibration.rows=3
    """
    from flows.cli.study import calibrate as measure

    raise typer.Exit(measure(overrides or [], as_json=as_json, quiet=quiet))


@app.command()
def config(
    overrides: Overrides = None,
    keys: Annotated[bool, typer.Option("--keys", help="list all settings with their meaning")] = False,
) -> None:
    """Show the settings that a run would use, as YAML.

    Example: headstart config schedule=unipc
    """
    from flows.cli.show import show_config, show_keys

    typer.echo(show_keys() if keys else show_config(overrides or []), nl=False)


@app.command()
def report(
    batch: Annotated[str | None, typer.Argument(help="name of the batch; the latest by default")] = None,
    overrides: Overrides = None,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="one page with all videos inside, to send to someone")
    ] = False,
    out: Annotated[str | None, typer.Option(help="file for that page; BATCH.html by default")] = None,
) -> None:
    """Write the report of a batch again, from what is in the store.

    Example: headstart report demo-20261121-101500 store=headstart-store
    """
    from flows.cli.show import write_report_again

    typer.echo(write_report_again(batch, overrides or [], single_file=single_file, out=out))


@app.command()
def nightly(
    overrides: Overrides = None,
    cron: Annotated[str, typer.Option(help="when to run, as a cron line")] = "30 2 * * *",
    timezone: Annotated[str, typer.Option(help="time zone of the cron line")] = "UTC",
    every: Annotated[float | None, typer.Option(help="instead of --cron: seconds between runs")] = None,
    name: Annotated[str, typer.Option(help="name of the deployment in Prefect")] = "nightly",
    root: Annotated[
        list[str] | None,
        typer.Option(help="folder or URL prefix below which the UI may name other sheets, stores and models"),
    ] = None,
) -> None:
    """Render a sheet on a schedule, until interrupted. Follow and control the runs in the Prefect UI.

    Example: headstart nightly my.csv --cron "30 2 * * *" --timezone Europe/Berlin
    """
    from flows.compose import compose_settings
    from flows.on_prefect.server import connect

    if connect(compose_settings(overrides or []).server) is None:
        _fail("a schedule needs a Prefect server; leave server=none out")
    from flows.on_prefect.nightly import serve_nightly

    serve_nightly(overrides or [], name=name, cron=cron, timezone=timezone, every_s=every, roots=root or [])


@app.command()
def doctor(overrides: Overrides = None, as_json: Json = False) -> None:
    """Check this machine, and say what is wrong and what to do. Exit code 1 when something has to be fixed.

    Example: headstart doctor store=s3://bucket/headstart
    """
    from flows.doctor import as_text, examine
    from flows.on_prefect.server import quiet_environment

    quiet_environment()
    findings = examine(overrides or [])
    typer.echo(as_text(findings, as_json=as_json), nl=False)
    raise typer.Exit(EXIT_SOME_FAILED if any(finding.status == "fail" for finding in findings) else EXIT_DONE)


if __name__ == "__main__":
    main()
