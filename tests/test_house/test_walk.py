"""docs/design/0000-the-house.md: the walk of one row is as it says, and every file on the page is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_flows.conftest import TINY, sheet_text

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "design" / "0000-the-house.md").read_text()
MOST = 24


def steps():
    """The files of the numbered steps."""
    walk = PAGE.partition("## The walk of one row")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", walk, re.MULTILINE)


def test_every_file_that_the_page_names_is_there():
    named = re.findall(r"`((?:flows|tasks|prior_engine|prior_store|demo|benchmarks|tests|conf|docs)/[^`*<]*)`", PAGE)
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_walk_is_short_and_names_no_file_twice():
    assert 10 < len(steps()) <= MOST
    assert len(set(steps())) == len(steps())


@pytest.mark.process
def test_a_row_is_walked_in_that_order(tmp_path, tiny_t2v):
    for prompt in ("runs", "sits"):
        (tmp_path / f"{prompt}.csv").write_text(sheet_text(["fox"], [prompt]))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "test_house" / "walked.py"), "runs.csv", "sits.csv", "-q",
         f"model={tiny_t2v}", *TINY, "store=store", "server=none"],
        cwd=tmp_path, text=True, capture_output=True, timeout=240,
        env={**os.environ, "HEADSTART_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    order = json.loads(done.stdout.rpartition("@")[2])
    assert [file for file in steps() if file not in order] == []
    assert steps() == sorted(steps(), key=order.index), "no step back"
