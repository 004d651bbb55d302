"""The page of a study: the answer, a plot of quality against steps, every setting in a table. One file, no requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.pages.report import rendered
from tasks.studies.conclusion import LEAST_PAIRS
from tasks.studies.pair import FULL_RUN, PRIOR

_MEASURES = (
    ("followed", "Followed its prompt", "0 = still the prior, 1 = like a full run"),
    ("kept", "Kept the prior", "1 = first frame and still parts unchanged"),
    ("detail", "Detail at every scale", "where most is missing; 1 = as much as a full run"),
)
# What one setting differs in from another.
WAY = ("start_step", "tail", "start", "guidance")
# Pairs whose clips are shown, how many rows an identity may have, and how long a full run may be.
_SHOWN, ROWS, _LENGTHS = 4, (2, 5, 20, 100), (10, 20, 30, 50)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 320, 220, 34, 28, 12


def page(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]] = ()) -> str:
    """inflection.html. `pairs` hold the pictures, as they were measured."""
    plots = [_plot(record, name, title, note) for name, title, note in _MEASURES] if record["lines"] else []
    return rendered(
        "inflection.html.j2",
        record=record,
        plots=plots,
        how_sure=how_sure,
        spread=spreads(record),
        is_advised=is_advised(record),
        looks=looks(record, pairs),
        costs=costs(record),
        rows=ROWS,
    )


def spreads(record: Mapping[str, Any]) -> Callable[[Mapping[str, Any], str], str]:
    """Half of a 95 % interval beside a figure; nothing where there are too few pairs to know it."""
    enough = len(record["pairs"]) - len(record["mute"]) >= LEAST_PAIRS
    return lambda line, name: f"±{line[f'{name}_hw']:.2f}" if enough else ""


def is_advised(record: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    """Which line is the advised one."""
    return lambda line: all(line[name] == record["advice"][name] for name in WAY)


def how_sure(record: Mapping[str, Any]) -> str:
    """What can be said of the certainty of an answer, where there is one."""
    advice, pairs = record["advice"], len(record["pairs"]) - len(record["mute"])
    if advice["certainty"] is None:
        return f"unknown with {pairs} pair{'s' if pairs != 1 else ''}; measure {LEAST_PAIRS} or more"
    low, high = advice["start_steps"]
    return f"good enough in {advice['certainty']:.0%} of the resamples; 95 % of them would start between k={low} and k={high}"


def looks(record: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of a few pairs that differ in their identities: the two clips that others are compared with, and the advised one
    between them, with its control."""
    best = next((line for line in record["lines"] if is_advised(record)(line)), None)
    shown = {pair["identity"]: pair for pair in reversed(pairs) if pair["pair"] not in record["mute"]}
    names = [PRIOR, *([best["name"]] if best else []), FULL_RUN, *([f"scratch {best['steps']}"] if best else [])]
    return [
        {"pair": pair["pair"], "prompt": pair["prompt"], "clips": [(name, pair["looks"][name]) for name in names]}
        for pair in [*shown.values()][::-1][:_SHOWN]
        if "looks" in pair
    ]


def costs(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Steps of an identity with so many rows, with a prior and without, here and with priors of other lengths."""
    advice, total = record["advice"], record["full_steps"]
    if advice["start_step"] is None:
        return []
    # An exact tail grows with the prior; a re-spaced one does not.
    lengths = {total} if advice["tail"] == "exact" else {total, *_LENGTHS}
    return [
        {
            "length": length,
            "measured": length == total,
            "shares": [(length + rows * advice["steps"]) / (rows * length) for rows in ROWS],
        }
        for length in sorted(lengths)
    ]


def _plot(record: Mapping[str, Any], name: str, title: str, note: str) -> dict[str, Any]:
    """One small picture: measure against steps a variant; every start step a thin line, scratch a dashed one."""
    advice = record["advice"]
    # The dots of other guidances than the advised one would only cover it.
    lines = [line for line in record["lines"] if line["tail"] == "exact" or line["guidance"] == advice["guidance"]]
    full = {"followed": 1.0, "kept": record.get("kept_full", 0.0), "detail": 1.0}[name]
    most = max(line["steps"] for line in lines)
    top = max(1.1, *(line[name] for line in lines)) * 1.03

    def place(steps: float, value: float) -> tuple[float, float]:
        x = _LEFT + (steps - 0.5) / most * (_WIDTH - _LEFT - 8)
        y = _HEIGHT - _BOTTOM - max(0.0, value) / top * (_HEIGHT - _BOTTOM - _TOP)
        return round(x, 1), round(y, 1)

    def dots(chosen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        found = []
        for line in sorted(chosen, key=lambda one: one["steps"]):
            x, y = place(line["steps"], line[name])
            half = abs(place(1, line[name] + line[f"{name}_hw"])[1] - y)
            found.append({"x": x, "y": y, "half": round(half, 1), "label": f"{line['name']}: {line[name]:.2f}"})
        return found

    exact = [line for line in lines if line["start_step"] is not None and line["tail"] == "exact"]
    best = [line for line in lines if is_advised(record)(line)]
    respaced = [line for line in lines if line["start_step"] is not None and line["tail"] != "exact"]
    straight = [line for line in respaced if line["start"] == "line"]
    return {
        "title": title,
        "note": note,
        "width": _WIDTH,
        "height": _HEIGHT,
        "full": place(1, full)[1],
        "left": _LEFT,
        "floor": _HEIGHT - _BOTTOM,
        "scratch": dots([line for line in lines if line["start_step"] is None]),
        "exact": dots(exact),
        "respaced": dots([line for line in respaced if line["start"] == "snapshot"]),
        "straight": dots(straight),
        "best": dots(best if advice["start_step"] is not None else []),
        "ticks_x": [(place(steps, 0)[0], steps) for steps in range(1, most + 1)],
        "ticks_y": [(place(1, value)[1], f"{value:g}") for value in (0, 0.5, 1.0)],
    }
