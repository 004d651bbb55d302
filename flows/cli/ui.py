"""`headstart ui ...`: the Prefect server of this machine."""

from __future__ import annotations

import typer

from flows.cli.exit_codes import EXIT_DONE, EXIT_SOME_FAILED
from flows.cli.typed.arguments import Overrides

app = typer.Typer(
    help="Start, stop and open the Prefect server of this machine.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("start")
def ui_start(overrides: Overrides = None) -> None:
    """Start the Prefect server, unless it is running, and print the address that lets a browser in.

    Example: headstart ui start server.port=4300
    """
    from flows.compose import compose_settings
    from flows.on_prefect.server import quiet_environment, start

    quiet_environment()
    typer.echo(f"the Prefect UI is at {start(compose_settings(overrides or []).server).entrance}")


@app.command("stop")
def ui_stop() -> None:
    """Stop the server that Headstart started.

    Example: headstart ui stop
    """
    from flows.on_prefect.server import stop

    typer.echo("stopped" if stop() else "no server that Headstart started is running")


@app.command("status")
def ui_status() -> None:
    """Show whether the server runs and answers. Exit code 1 if it does not.

    Example: headstart ui status
    """
    from flows.on_prefect.server import healthy, log_file, running

    server = running()
    if server is None:
        typer.echo("not running; start it with: headstart ui start")
        raise typer.Exit(EXIT_SOME_FAILED)
    answers = healthy(server.api_url)
    typer.echo(
        f"running at {server.entrance} (process {server.pid}), {'answers' if answers else f'does not answer; see {log_file()}'}"
    )
    raise typer.Exit(EXIT_DONE if answers else EXIT_SOME_FAILED)


@app.command("open")
def ui_open() -> None:
    """Open the UI in a browser, and let the browser in.

    Example: headstart ui open
    """
    from flows.on_prefect.server import running
    from tasks.errors import ServerError

    server = running()
    if server is None:
        raise ServerError("no server is running; start it with: headstart ui start")
    typer.launch(server.entrance)
