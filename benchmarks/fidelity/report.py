"""From the raw numbers in benchmarks/results/fidelity/ to the tables and plots of docs/fidelity.md (`make fidelity`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fidelity.run import PARTS, RESULTS
from benchmarks.fidelity.study import HEAD, Row, as_line, mean_open

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "fidelity.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- tables: written by make fidelity -->", "<!-- end of tables -->"
NAMES = {"t2v": "Text to video", "i2v": "Image to video"}
TITLES = {
    "rest": "Priors at rest, as sheets record them",
    "moving": "Priors that do something else",
    "longer": "Longer full runs, and priors of more steps",
    "guidance-1": "No guidance (guidance 1)",
    "guidance-3": "Guidance 3",
    "guidance-5": "Guidance 5",
    "diffusers-grid": "Diffusers' own grid",
    "diffusers-grid-guidance-1": "Diffusers' own grid, no guidance",
    "unipc": "UniPC",
    "swap": "The prompt names another identity",
    "options": "What might win more",
}


def load(kind: str, part: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """A part's numbers, rows as `Row`."""
    path = folder / f"{kind}-{part}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found | {"rows": [Row(**row) for row in found["rows"]]}


def full_of(rows: Iterable[Row], steps: int = 10) -> Row:
    """The full run of the variants' own prompts."""
    return next(row for row in rows if row.name == "full run of B" and row.steps == steps)


def best_scratch(rows: Sequence[Row], steps: int) -> Row | None:
    """From scratch in so many steps, at the shift that looks most real."""
    return min(
        (row for row in rows if row.name.startswith("scratch") and row.steps == steps), key=lambda r: r.fd, default=None
    )


def of_prior(row: Row, steps: int = 10) -> bool:
    """Whether the row started from a prior of so many steps."""
    return row.name.startswith("prior k" if steps == 10 else f"prior of {steps} steps k")


def on_line(row: Row) -> bool:
    """Whether the row started on the straight line."""
    return row.name.endswith("straight line")


def best_prior(rows: Iterable[Row], steps: int, full: Row) -> Row | None:
    """Of the settings that follow at least .98 as often as the full run the one that looks most real; else what follows best."""
    ours = [row for row in rows if of_prior(row, full.steps) and row.steps == steps]
    good = [row for row in ours if row.follows >= 0.98 * full.follows and row.kept >= full.kept]
    follow = [row for row in ours if row.follows >= 0.98 * full.follows]
    return min(good or follow, key=lambda row: row.fd, default=None) or max(
        ours, key=lambda row: row.follows, default=None
    )


def verdict(kind: str, part: str, prior_steps: int, folder: Path = RESULTS) -> list[str]:
    """Does a prior do at 3 and 2 steps what it is for? Every condition with its numbers, by way of starting."""
    found = load(kind, part, folder)
    if found is None:
        return []
    rows, lines = found["rows"], []
    full = full_of(rows, prior_steps)
    for steps, line in ((3, False), (3, True), (2, False), (2, True)):
        ours = best_prior((row for row in rows if on_line(row) == line), steps, full)
        scratch = best_scratch(rows, steps)
        if ours is None or scratch is None:
            continue
        conditions = [
            (ours.follows >= 0.98 * full.follows, f"follows {ours.follows:.3f} against {full.follows:.3f}"),
            (ours.fd <= 1.3 * full.fd, f"FD {ours.fd:.1f} against {full.fd:.1f} ({ours.fd / full.fd:.2f} times)"),
            (ours.kept >= full.kept, f"keeps {ours.kept:.3f} against {full.kept:.3f}"),
            (ours.fd + ours.fd_hw < scratch.fd - scratch.fd_hw, f"FD {ours.fd:.1f} ±{ours.fd_hw:.1f} against {scratch.fd:.1f} ±{scratch.fd_hw:.1f} from scratch"),
            (ours.follows >= scratch.follows - scratch.follows_hw, f"follows {ours.follows:.3f} against {scratch.follows:.3f} from scratch"),
        ]  # fmt: skip
        cells = " | ".join(f"{'yes' if holds else '**no**'}: {told}" for holds, told in conditions)
        lines.append(f"| {NAMES[kind]} | {TITLES[part]} | {steps} of {prior_steps} | {ours.name} | {cells} |")
    return lines


def verdict_table(folder: Path = RESULTS) -> str:
    """All verdicts."""
    asked = (("rest", 10), ("longer", 30), ("longer", 50), ("moving", 10))
    lines = [line for kind in NAMES for part, steps in asked for line in verdict(kind, part, steps, folder)]
    head = "| | | steps | best setting | follows at least .98 of the full run | FD at most 1.3 times the full run's | keeps at least what the full run keeps | looks more real than scratch, beyond the intervals | follows no less than scratch |"
    return "\n".join([head, "|" + "---|" * 9, *lines])


def admission(folder: Path = RESULTS) -> str:
    """Is this world one in which a prior can matter at all? Much must be open, and few steps from scratch must show it."""
    lines = []
    for kind, least in (("t2v", 0.8), ("i2v", 0.2)):
        found, longer = load(kind, "rest", folder), load(kind, "longer", folder)
        if found is None:
            continue
        rows, opened = found["rows"], mean_open(found["open_variance"])
        full = full_of(rows)
        scratch = [row for row in rows if row.name.startswith("scratch") and row.steps == 3]
        shares = ", ".join(f"{row.detail / full.detail:.2f} ({row.name.partition(', ')[2]})" for row in scratch)
        best = best_scratch(rows, 3)
        most = max(row.detail for row in scratch) / full.detail
        grows = [] if longer is None else [full_of(longer["rows"], steps).fd for steps in (20, 50)]
        wanted = 0.5 if kind == "t2v" else 1.0
        checks = [
            (
                opened >= least,
                f"{opened:.2f} of the variance is left open by what is given, on average over sigma .9 to 1 (wanted: at least {least}): "
                + ", ".join(f"{share:.2f} at {sigma}" for sigma, share in found["open_variance"].items()),
            ),
            (
                most <= wanted,
                f"texture of 3 steps from scratch over a full run's: {shares} (wanted: {'at most a half' if kind == 't2v' else 'visibly less'})",
            ),
            (
                best is not None and best.fd - best.fd_hw > full.fd + full.fd_hw,
                f"3 steps from scratch at their best: FD {best.fd:.1f}, 10 steps: {full.fd:.1f}" if best else "",
            ),
        ]
        if grows:
            told = ", ".join(f"{fd:.1f}" for fd in (full.fd, *grows))
            checks.append((grows[-1] < full.fd, f"FD of full runs of 10, 20 and 50 steps: {told} (wanted: falling)"))
        lines += [f"| {NAMES[kind]} | {'yes' if holds else '**no**'} | {told} |" for holds, told in checks]
    return "\n".join(["## Is the world hard enough?\n", "| | | |", "|---|---|---|", *lines, ""])


def tables(folder: Path = RESULTS) -> str:
    """All parts, most important first."""
    text = ["## The verdict\n", verdict_table(folder), ""]
    for kind, name in NAMES.items():
        if (folder / f"{kind}-rest.json").exists():
            text.append(f"![{name}: quality against steps a variant](images/fidelity_{kind}.png)\n")
    for part in PARTS:
        for kind, name in NAMES.items():
            found = load(kind, part, folder)
            if found is None:
                continue
            text.append(f"## {TITLES[part]}: {name[:1].lower() + name[1:]}\n")
            text.append(
                f"Guidance {found['guidance']:g}, {found['pairs']} pairs; FD of real clips among themselves {found['fd_floor']:.2f}.\n"
            )
            text += [HEAD, *(as_line(row).replace("nan ±nan", "-") for row in found["rows"]), ""]
    return "\n".join([*text, admission(folder), agreement(folder)])


def agreement(folder: Path = RESULTS) -> str:
    """What the measures that know nothing of the world say beside the judge, also on pairs that chose no bar."""
    paths = [path for kind in NAMES if (path := folder / f"{kind}-agreement.json").exists()]
    if not paths:
        return ""
    found = [json.loads(path.read_text()) for path in paths]
    fresh = [
        json.loads(path.read_text()) for path in (folder / "fresh-pairs" / path.name for path in paths) if path.exists()
    ]
    text = ["## What needs no judge, against the judge\n"]
    for title, study in (("pairs on which the bar of following was chosen", found), ("fresh pairs", fresh)):
        if not study:
            continue
        text += [
            f"The latest start step up to which variants follow (exact tails, {study[0]['guard']['pairs']} {title}), by judge and `headstart inflection`:\n",
            "| kind | guidance | grid | judge | `headstart inflection` |",
            "|---|---|---|---|---|",
        ]
        for one in (line for each in study for line in each["inflection"]):
            by = (one["inflection_judge"], one["inflection_likeness"])
            cells = (NAMES[one["kind"]], f"{one['guidance']:g}", one["grid"], *by)
            text.append("| " + " | ".join(map(str, cells)) + " |")
        text.append("")
    text.append(
        "Shares that `guard=on` marks:\n\n| kind | variants | lost its identity | did not move |\n|---|---|---|---|"
    )
    for each in found:
        for name, shares in each["guard"].items():
            if isinstance(shares, dict):
                told = " | ".join(f"{share:.2f}" for share in shares.values())
                text.append(f"| {NAMES[each['guard']['kind']]} | {name} | {told} |")
    return "\n".join(text) + "\n"


def plot(kind: str, folder: Path = RESULTS) -> None:
    """Quality against steps a variant: prior, scratch, full; and what follows against the noise that is left."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    found = load(kind, "rest", folder)
    if found is None:
        return
    rows, full = found["rows"], full_of(found["rows"])
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    for axis, name, title in zip(
        axes,
        ("follows", "fd", "kept"),
        ("follows its prompt", "Frechet distance (lower is better)", "scene kept"),
        strict=False,
    ):
        ours = [best for steps in range(1, 8) if (best := best_prior((r for r in rows if not on_line(r)), steps, full))]
        straight = [best for steps in range(1, 4) if (best := best_prior(filter(on_line, rows), steps, full))]
        scratch = [best for steps in range(1, 6) if (best := best_scratch(rows, steps))]
        for line, label, style in (
            (ours, "from a snapshot", "o-"),
            (straight, "from the straight line", "^-"),
            (scratch, "from scratch", "s--"),
        ):
            axis.errorbar(
                [row.steps for row in line], [getattr(row, name) for row in line],
                yerr=[getattr(row, f"{name}_hw") for row in line], fmt=style, label=label, capsize=2, markersize=4,
            )  # fmt: skip
        axis.axhline(getattr(full, name), color="grey", linestyle=":", label="full run, 10 steps")
        axis.set(title=title, xlabel="steps a variant", xticks=range(1, 8))
        axis.set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    for part in ("guidance-1", "guidance-3", "rest", "guidance-5"):
        other = load(kind, part, folder)
        if other is None:
            continue
        tails = [row for row in other["rows"] if row.name.endswith("exact tail")]
        axes[3].plot(
            [9 - row.steps for row in tails],
            [row.follows for row in tails],
            "o-",
            markersize=3,
            label=f"guidance {other['guidance']:g}",
        )
    axes[3].set(title="exact tails: follows by start step", xlabel="start step k", ylim=(0, 1.03))
    axes[3].legend(frameon=False)
    figure.suptitle(f"{NAMES[kind]}, {found['pairs']} pairs, bars are 95 %")
    figure.savefig(IMAGES / f"fidelity_{kind}.png", dpi=90)


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}")
    for kind in NAMES:
        plot(kind)
    print(verdict_table())


if __name__ == "__main__":
    main()
