"""Two trainings of the same recipe side by side, written into the demo model's card.

The second one: `python -m demo.train --seed 1 --folder FOLDER --weights WEIGHTS`, then for each kind
`python -m benchmarks.fidelity.run --kind t2v --part rest --folder WEIGHTS/t2v --out benchmarks/results/fidelity/second-seed`.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.fidelity.report import NAMES, load
from benchmarks.fidelity.run import RESULTS
from benchmarks.fidelity.study import Row

CARD = Path(__file__).resolve().parents[2] / "demo" / "MODEL_CARD.md"
BEGIN, END = "<!-- both trainings: written by benchmarks/fidelity/seeds.py -->", "<!-- end of both trainings -->"
FULL, DEMO = ("full run of B", 10), ("prior k=3 (sigma 0.882), straight line", 3)
SHOWN = (
    FULL,
    DEMO,
    ("prior k=5 (sigma 0.769), straight line", 3),
    ("prior k=4 (sigma 0.833), re-spaced", 3),
    ("prior k=5, exact tail", 4),
    ("scratch, shift 8", 3),
)
SHARES = ("identity", "follows", "kept")


def table() -> str:
    """A line a setting, the shipped model first; how far shares differ is said below."""
    lines = [
        "| | setting | steps | identity | follows | kept | detail / real | FD |",
        "|---|---|---|---|---|---|---|---|",
    ]
    apart: list[tuple[float, str, tuple[str, int]]] = []
    for kind, name in NAMES.items():
        ours, other = (
            {(row.name, row.steps): row for row in found["rows"]}
            for folder in (RESULTS, RESULTS / "second-seed")
            if (found := load(kind, "rest", folder))
        )
        for setting in SHOWN:
            rows: tuple[Row, Row] = (ours[setting], other[setting])
            cells = [" / ".join(f"{getattr(row, share):.3f}" for row in rows) for share in SHARES]
            cells += [
                " / ".join(f"{row.detail:.2f}" for row in rows),
                " / ".join(f"{row.fd:.1f} ±{row.fd_hw:.1f}" for row in rows),
            ]
            lines.append(f"| {name} | {setting[0]} | {setting[1]} | {' | '.join(cells)} |")
        apart += [
            (
                100 * abs(getattr(ours[setting], share) - getattr(other[setting], share)),
                f"{share}, {name.lower()}",
                setting,
            )
            for setting in ours.keys() & other.keys() - {("prior itself (A)", 10)}
            for share in SHARES
        ]

    def most(*settings: tuple[str, int]) -> str:
        points, what, (setting, steps) = max(one for one in apart if not settings or one[2] in settings)
        return f"{points:.1f} points ({what}, {setting} in {steps})"

    told = (
        f"in full runs {most(FULL)}; in the setting that the demo uses {most(DEMO)}; in any row of that table {most()}"
    )
    return "\n".join([*lines, "", f"Largest difference of a share: {told}."])


def main() -> None:
    before, _, rest = CARD.read_text().partition(BEGIN)
    CARD.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")
    print(table())


if __name__ == "__main__":
    main()
