"""The tutorial's sheet and commands, as they stand in the tutorial."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs" / "tutorial.md").read_text()


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    (tmp_path / "my.csv").write_text(re.search(r"```csv\n(.*?)```", TEXT, re.DOTALL).group(1))
    commands = re.findall(r"^\$ headstart (.*)$", TEXT, re.MULTILINE)
    assert len(commands) == 4
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEADSTART_HOME": str(tmp_path / "home")}
    for line in commands:
        # The tutorial's own last line: the same without a server, which this test does not need.
        more = ["server=none"] if line.startswith("run") else []
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", *line.split(), *more],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert len(list((tmp_path / "headstart-store" / "variants").glob("*/*/*/video.mp4"))) == 3
