"""Writes the reference pages from the code, or checks that they are fresh: `python -m docs.generate [--check]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "reference"
CARDS_FILE = FOLDER.parents[1] / "benchmarks" / "results" / "gpu" / "cards.json"
NOTE = "<!-- Generated from the code by `make docs-write`. Do not edit. -->\n\n"


def cell(value: object) -> str:
    """Text that fits into one cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def cli_page() -> str:
    """Every verb, its arguments and options."""
    import typer

    from flows.cli.main import app

    lines = ["# The command line\n"]
    root = typer.main.get_command(app)
    for path, command in walk_commands(root, "headstart"):
        if path == "headstart":
            lines.append(f"{command.help}\n")
            lines += _parameters(command)
            lines.append(f"\n{command.epilog}\n")
            continue
        lines.append(f"## {path}\n")
        about, _, example = (command.help or "").partition("Example:")
        lines.append(about.strip() + "\n")
        if example:
            lines.append(f"```console\n$ {example.strip()}\n```\n")
        lines += [*_parameters(command), ""]
    return "\n".join(lines) + "\n"


def _parameters(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.name in {"help", "install_completion", "show_completion"}:
            continue
        names = ", ".join(f"`{name}`" for name in getattr(parameter, "opts", [])) or parameter.name
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.name or '').upper()}`"
        yield f"- {names}: {getattr(parameter, 'help', '') or ''}"


def walk_commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A command and everything below it, in order."""
    yield path, command
    for name, sub in getattr(command, "commands", {}).items():
        yield from walk_commands(sub, f"{path} {name}")


def config_page() -> str:
    """Every setting and every choice."""
    from flows.compose import GROUPS, choices, known_settings

    lines = [
        "# Settings\n",
        "On the command line: `key=value`, or `group=choice` for a whole file of `conf/`. Three groups take a value as",
        "well: `sheet=my.csv` is `sheet.path=my.csv`, `store=URL` is `store.url=URL`, `model=FOLDER` is `model.source=FOLDER`.",
        "`headstart config` prints what a run would use. A bare file name is the sheet: `headstart run my.csv`. Secrets come from the",
        "environment only.\n",
        "| key | default | meaning |",
        "|---|---|---|",
    ]
    for key, field in known_settings():
        default = field.get_default(call_default_factory=True)
        lines.append(f"| `{key}` | `{cell(default)}` | {cell(field.description)} |")
    lines += ["\n## Choices\n", "| group | choices |", "|---|---|"]
    lines += [f"| `{group}` | {', '.join(f'`{name}`' for name in choices(group))} |" for group in GROUPS]
    return "\n".join(lines) + "\n"


# Run at their real size, with random weights (benchmarks/results/gpu).
REAL_SIZE = ("wan21-t2v-1.3b", "wan21-t2v-14b")
# How the books call a preset's architecture.
ARCHITECTURES = {
    "1.3b": "Wan 2.1 T2V 1.3B",
    "i2v-14b": "Wan 2.1 I2V 14B",
    "flf2v-14b": "Wan 2.1 I2V 14B",
    "t2v-14b": "Wan 2.1 T2V 14B",
    "a14b": "Wan 2.2 T2V A14B",
}


def _card(preset: str, height: int | None) -> str:
    """The smallest card that a preset fits, with all that saves memory and with nothing."""
    known = next((name for part, name in ARCHITECTURES.items() if part in preset and "wan" in preset), None)
    # The control blocks of VACE come on top, and no book has them.
    if known is None or "vace" in preset:
        return "not counted"
    cards = json.loads(CARDS_FILE.read_text())[known]["720p" if height == 720 else "480p"]
    fits = [card for card, how in cards.items() if how != "none"]
    plain = [card for card, how in cards.items() if how == "as it is"]
    return f"{fits[0] if fits else 'larger'}; {plain[0] if plain else 'larger'} as it is"


def models_page() -> str:
    """Every preset of a model, as its file has it."""
    from flows.compose import CONF_DIR, compose_settings

    lines = [
        "# Models\n",
        "`model=NAME` takes one of these; each is a file of `conf/model/`. A model of your own: [how](../how-to/own-model.md).\n",
        "**How each was verified.** Its settings are read from the file, a tiny model of the same pipeline with random weights is put in the",
        "place of the source, a run is recorded, and resumed after two steps to the same bits, on a CPU (`tests/test_flows/test_presets.py`): *tiny*.",
        "Some were run at their real size with random weights on one GPU ([performance](../performance.md#on-a-gpu)): *real size*. **None was run",
        "with its real weights.** Sizes, guidance and walk are what the makers name, as far as it could be looked up: see the",
        "card. The solver is Euler, which is exact from any snapshot and may be re-spaced; Wan's makers use UniPC (`schedule.scheduler=UniPCMultistepScheduler`).\n",
        "A preset brings its walk with it: `schedule=...` takes another, `schedule.num_inference_steps=30` changes one value. Where a model",
        "starts best nobody has measured: `headstart inflection` does. A plan says what a rule of thumb takes until then.\n",
        "*Card* is the smallest one, of 8, 16, 24 and 80 GB, that the preset's size fits by the books with all that saves memory (`accel=8gb` and so on), and",
        "the smallest that it fits as it is",
        "(`python -m benchmarks.gpu.books`); `headstart plan` counts it for your sheet.\n",
        "| preset | what it is | source | pipeline | size, frames | guidance | steps, shift | starts | fps | card | verified |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for file in sorted((CONF_DIR / "model").glob("*.yaml")):
        if file.stem in {"custom", "demo"}:
            continue
        settings = compose_settings([f"model={file.stem}"])
        model, schedule = settings.model, settings.schedule
        about = " ".join(line[2:] for line in file.read_text().splitlines() if line.startswith("# "))
        if schedule.guidance is not None:
            guided = f"{schedule.guidance:g}, fixed"
        else:
            guided = f"{model.guidance:g}" + ("" if model.guidance_2 is None else f", {model.guidance_2:g}")
        size = f"{model.width}x{model.height}, {model.frames}"
        shift = "its own" if schedule.sigma_shift is None else f"{schedule.sigma_shift:g}"
        starts = "after any step, without re-spacing" if schedule.tails == "exact" else "to be measured"
        walk = f"{schedule.num_inference_steps}, " + ("fixed" if schedule.grid == "explicit" else shift)
        lines.append(
            f"| `{file.stem}` | {cell(about)} | `{model.source}` | `{model.pipeline}` | {size} | {guided} | {walk} | {starts} | {model.fps} "
            f"| {_card(file.stem, model.height)} | {'tiny, real size' if file.stem in REAL_SIZE else 'tiny'} |"
        )
    lines += [
        "\n## Not supported\n",
        "| what | what it would need |",
        "|---|---|",
        "| Wan Fun-Control, camera control, speed control | a pipeline in diffusers, which has none for them |",
        "| Wan speech to video, Wan Animate | inputs that the engine does not take (sound, poses) |",
        "| Weights that wait on a disk | offloading to disk in diffusers that gives the same results; tried in 0.42, it did not |",
        "| One model over several GPUs | processes that walk together; several GPUs take different rows today |",
        "| FastWan with sparse attention | its kernel; the gates in its files are named in the log and left out |",
    ]
    return "\n".join(lines) + "\n"


def sheet_page() -> str:
    """Every column of a sheet."""
    from tasks.sheets.columns import COLUMNS

    lines = [
        "# Columns of a sheet\n",
        "CSV (commas, semicolons or tabs), JSONL, YAML or Parquet, in UTF-8. Only `identity` and `prompt` are required; an empty cell means the",
        "batch's own setting. A column marked *of the identity* needs to be filled in once per identity and applies to all its rows.\n",
        "Other columns are refused, unless a prompt uses them as a template or `sheet.ignore_unknown=true` is set.\n",
        "| column | meaning | of the identity |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{name}` | {cell(column.meaning)} | {'yes' if column.of_identity else ''} |"
        for name, column in COLUMNS.items()
    ]
    return "\n".join(lines) + "\n"


def manifest_page() -> str:
    """Every column of the manifest."""
    from prior_store.manifest.schema import COLUMNS

    lines = [
        "# Columns of the manifest\n",
        "One row per key; the latest one counts. Read it with any Parquet reader: see [how to](../how-to/read-the-manifest.md).\n",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{name}` | `{kind}` | {cell(meaning)} |" for name, kind, meaning in COLUMNS]
    return "\n".join(lines) + "\n"


def families_page() -> str:
    """Every pipeline and solver, and what is refused."""
    from prior_engine.models.reference import render

    return render()


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "config.md": config_page,
    "models.md": models_page,
    "sheet.md": sheet_page,
    "manifest.md": manifest_page,
    "families.md": families_page,
}


@cache
def text_of(name: str) -> str:
    """A page as it has to be; the page of families says by itself where it comes from."""
    return PAGES[name]() if name == "families.md" else NOTE + PAGES[name]()


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are stale."""
    stale = []
    for name in PAGES:
        path, text = FOLDER / name, text_of(name)
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    if stale and "--check" in arguments:
        sys.stderr.write(f"stale pages in docs/reference: {stale}; run: make docs-write\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
