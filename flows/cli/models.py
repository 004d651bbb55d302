"""`headstart models`: what can be done with files of weights before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Files of weights.", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)  # fmt: skip


@app.callback()
def _models() -> None:
    pass


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="a .pt, .pth, .ckpt or .bin file")],
    out: Annotated[Path | None, typer.Option(help="where to write; beside the file when left out")] = None,
) -> None:
    """Turn a pickle of weights into a safetensors file. Nothing in it is run: what is more than tensors is refused.

    Example: headstart models convert Wan2.1_VAE.pth
    """
    from prior_engine.loaded.convert import convert as convert_file

    target, count, left = convert_file(file, out)
    typer.echo(f"{count} tensors written to {target}")
    if left:
        typer.echo(f"left out, since they are no tensors: {', '.join(left[:10])}", err=True)
