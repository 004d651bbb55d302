"""A small sheet is read or refused soon and in little memory, whatever it would make."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile_sheets
import pytest
from hostile_sheets import MEGABYTES, SECONDS, SHEETS, SLACK

pytestmark = [pytest.mark.process, pytest.mark.slow]
READ = {
    "a chain of parents": "60000 rows",
    "a long identity, thousands of times": "50000 rows",
    "rows alike": "99000 rows",
    "yaml: many rows": "30000 rows",
    "yaml: many values": "1 rows",
    "parquet: a long word, in many rows": "90000 rows",
    "parquet: a shorter list of a long word": "1 rows",
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What each took, measured in processes of their own; None for one that came to no end within bounds."""
    program = [sys.executable, hostile_sheets.__file__, str(tmp_path_factory.mktemp("hostile"))]
    root = Path(__file__).parents[2]
    told = subprocess.run(
        program, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    return dict(json.loads(line) for line in told.stdout.splitlines())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHEETS)
def test_a_small_sheet_is_read_or_refused_soon_and_in_little_memory(name, measured):
    assert measured[name] is not None, "grew out of bounds"
    seconds, megabytes, said = measured[name]
    assert seconds < SECONDS * SLACK
    assert megabytes < MEGABYTES
    assert said == READ.get(name) or said.startswith("refused: ")
    assert len(said) < 100_000
