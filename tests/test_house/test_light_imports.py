"""What is imported when: the store without models or orchestrator, help without anything heavy."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process
HEAVY = {"torch", "diffusers", "transformers", "prefect", "hydra", "omegaconf"}
ALSO_FOR_HELP = {"numpy", "pyarrow", "fsspec", "sqlalchemy", "PIL"}


def imported_by(program):
    """The top-level names that are imported once `program` has ended."""
    tell = (
        "import atexit, json, sys;"
        "atexit.register(lambda: sys.stderr.write('@' + json.dumps(sorted({n.partition('.')[0] for n in sys.modules}))));"
    )
    done = subprocess.run([sys.executable, "-c", tell + program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.rpartition("@")[2])), done.stdout


def test_the_store_brings_no_model_library_and_no_orchestrator():
    names, _ = imported_by("import prior_store; prior_store.Store; prior_store.recipe_key")
    assert "prior_store" in names
    assert names & (HEAVY | {"prior_engine", "tasks", "flows"}) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["store", "--help"], ["ui", "start", "--help"]])
def test_help_brings_nothing_heavy(arguments):
    names, said = imported_by(
        f"import sys; sys.argv = ['headstart', *{arguments!r}]; from flows.cli.main import main; main()"
    )
    assert "Usage: headstart" in said
    assert names & (HEAVY | ALSO_FOR_HELP) == set()


def test_the_versions_are_told_without_what_they_are_of():
    names, said = imported_by(
        "import sys; sys.argv = ['headstart', '--version']; from flows.cli.main import main; main()"
    )
    assert "torch 2." in said
    assert names & (HEAVY | ALSO_FOR_HELP) == set()


def test_exit_codes_come_without_the_command_line():
    names, _ = imported_by("import flows.cli.exit_codes")
    assert names & {"typer", "click"} == set()
