"""The contest's tables for docs/fidelity.md, from its raw numbers: `python -m benchmarks.fidelity.contest_page`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.fidelity.contest import RESULTS
from benchmarks.fidelity.report import NAMES, PAGE

BEGIN, END = "<!-- contest: written by benchmarks/fidelity/contest_page.py -->", "<!-- end of contest -->"
HEAD = (
    "| way | prior | sigma | guidance | steps | does as asked | FD | of full 30's | all frames, of full 30's "
    "| face, difference | off course | kept |\n" + "|---" * 12 + "|"
)


STAGES = {
    "quote": "The quoted pairs",
    "confirm": "A third draw of pairs",
    "swap": "Variants told of another colour or shape (*right* is the share that shows the new one)",
}


def section(folder: Path = RESULTS) -> str:
    """A table for each stage and kind; the pairs that settings were chosen by are left out."""
    parts = []
    for stage, heading in STAGES.items():
        parts.append(f"### {heading}\n")
        head = HEAD.replace("| FD |", "| right | FD |", 1) + "---|" if stage == "swap" else HEAD
        for kind, title in NAMES.items():
            path = folder / f"contest-{stage}-{kind}.json"
            if path.exists():
                found = json.loads(path.read_text())
                rows = "\n".join(_line(row, right=stage == "swap") for row in found["rows"])
                parts.append(f"**{title}**, {found['pairs']} pairs:\n\n{head}\n{rows}\n")
    return "\n".join(parts)


def _line(row: dict[str, Any], *, right: bool) -> str:
    against = row["beside_full_30"]
    low, high = row["follows_bounds"]
    cells = [
        row["how"],
        str(row["prior"] or "-"),
        f"{row['sigma']:.3f}" if row["prior"] else "-",
        f"{row['guidance']:g}",
        str(row["steps"]),
        f"{row['follows']:.3f} [{low:.3f}, {high:.3f}]",
        *([f"{row['identity']:.3f}"] if right else []),
        f"{row['fd']:.2f}",
        _bounded(against["fd_ratio"], ".2f"),
        f"{against['fd_all_ratio'][0]:.2f}",
        _bounded(against["face"], "+.3f"),
        f"{row['off_course']:.3f}",
        f"{row['kept']:.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def _bounded(value: list[float], form: str) -> str:
    middle, low, high = (format(number, form) for number in value)
    return f"{middle} [{low}, {high}]"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{section()}\n{END}{after}")


if __name__ == "__main__":
    main()
