"""Rooms stay small: what grows past these is two rooms."""

import statistics
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("flows", "tasks", "prior_engine", "prior_store", "demo", "benchmarks")
MOST_LINES, MOST_FILES, MIDDLE = 350, 12, 120


def files():
    """The product's Python files: folders of results and weights hold data."""
    return [path for room in PRODUCT for path in (ROOT / room).rglob("*.py") if "training" not in path.parts]


def test_files_are_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    assert statistics.median(lines.values()) <= MIDDLE


def test_folders_are_not_crowded():
    crowded = Counter(str(path.parent.relative_to(ROOT)) for path in files())
    assert {folder: count for folder, count in crowded.items() if count > MOST_FILES} == {}
