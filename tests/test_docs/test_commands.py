"""Every command of README, tutorial and how-to pages is run as it stands there, or says why it is not."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache, reduce
from pathlib import Path

import pytest
import yaml
from test_docs import forked
from test_docs.documents import GUIDES, ROOT, blocks, marks, name_of

README = ROOT / "README.md"
by_name = pytest.mark.parametrize("page", GUIDES, ids=name_of)
MAKE = """#!/bin/sh
# The repository's own make, on this environment as it is, with its store in this folder.
exec {make} --no-print-directory -C {root} -o setup -o dev BIN={bin} STORE="$PWD/headstart-store" "$@"
"""


@pytest.fixture
def shell(page, prefect_server, request, tmp_path):
    """Runs commands as a reader would, in an empty folder: `headstart` and `make` are found, a server is there.

    What README says is run by the installed program; what other pages say by one that starts sooner.
    """
    make = tmp_path / "bin" / "make"
    make.parent.mkdir()
    make.write_text(MAKE.format(make=shutil.which("make"), root=ROOT, bin=Path(sys.executable).parent))
    make.chmod(0o755)
    inherited = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    environment = {
        **inherited,
        "PATH": os.pathsep.join([str(make.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PREFECT_API_URL": prefect_server.api_url,
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
    }

    def run(command):
        return subprocess.run(
            ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
        )

    folder = tmp_path / "work"
    folder.mkdir()
    quicker = page != README and any(block.not_run is None for block in blocks(page) if block.language == "console")
    with forked.on_path(make.parent, request.getfixturevalue("prepared")) if quicker else contextlib.nullcontext():
        yield run


def as_pattern(line):
    """A shown line: `...` stands for anything, times and moments may differ."""
    pattern = re.escape(line).replace(re.escape("..."), ".*")
    return re.sub(r"\d+:\d\d|\d{8}\\-\d{6}", r"[\\d:-]+", pattern)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@by_name
def test_the_commands_run_as_they_stand_there(page, shell, tmp_path):
    to_run = [block for block in blocks(page) if block.language == "console" and block.not_run is None]
    own_sheet = [block.text for block in blocks(page) if block.language == "csv"]
    (tmp_path / "work" / "my.csv").write_text((own_sheet or [tutorial_sheet()])[0])
    for block in to_run:
        for command, shown in block.commands:
            done = shell(command)
            where = f"{name_of(page)}:{block.line}: {command}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == 0, where
            for line in filter(str.strip, shown):
                assert re.search(f"(?m)^{as_pattern(line)}$", done.stdout + done.stderr), (
                    f"{line!r} was not said; {where}"
                )


def tutorial_sheet():
    (sheet,) = (block.text for block in blocks(ROOT / "docs" / "tutorial.md") if block.language == "csv")
    return sheet


@by_name
def test_every_block_says_what_it_is(page):
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        assert block.language in {"console", "csv", "python", "yaml", "ini", "text"}, f"{where}: {block.language!r}"
        # Python is run beside the store's own tests, from the one page that has any.
        assert block.language != "python" or page.name == "read-the-manifest.md", where
        if block.language == "console":
            assert block.text.startswith("$ "), f"{where}: a command starts with a dollar sign"


@by_name
def test_what_is_not_run_has_a_reason_and_every_reason_a_block(page):
    reasons = [block.not_run for block in blocks(page) if block.language == "console" and block.not_run is not None]
    assert len(reasons) == marks(page)
    assert all(len(reason.split()) >= 3 for reason in reasons), reasons


@cache
def composed(overrides):
    """As plain values; many pages tell the same command."""
    from flows.compose import compose_settings

    return compose_settings(overrides).model_dump(mode="json")


COMMANDS = [
    pytest.param(command, id=f"{name_of(page)}:{block.line}:{number}")
    for page in [*GUIDES, ROOT / "docs" / "reference" / "cli.md"]
    for block in blocks(page)
    for number, (command, _) in enumerate(block.commands)
    if command.startswith("headstart ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists_with_its_options_and_settings(command):
    """Also where a command cannot be run: verb, options and keys are those of the code."""
    import typer

    from flows.cli.main import app
    from flows.compose import GROUPS, choices, known_settings

    _, *words = shlex.split(command)
    verb = typer.main.get_command(app)
    while words and words[0] in getattr(verb, "commands", {}):
        verb = verb.commands[words.pop(0)]
    assert not getattr(verb, "commands", None), f"{command}: {words[:1]} is no verb"
    values = verb.make_context("headstart", words, resilient_parsing=False).params
    settings = composed(tuple(values.get("overrides") or []))
    for key, value in (text.split("=", 1) for text in values.get("overrides") or []):
        # What is said is what is set; a group's name stands for a file, or for the key that takes a value.
        if key in GROUPS and value not in choices(key):
            key = {"sheet": "sheet.path", "store": "store.url", "model": "model.source"}[key]
        if key in dict(known_settings()):
            *rooms, name = key.split(".")
            room = reduce(lambda tree, part: tree[part], rooms, settings)
            said = yaml.safe_load(value)
            said = [{"path": said, "weight": 1.0, "expert": "both"}] if key == "model.loras" else said
            assert room[name] == said, f"{command}: {key} is {room[name]!r}"
