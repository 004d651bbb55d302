"""Whatever stands in a sheet, it becomes exact rows or is refused in a sentence, and soon.

Sheets are made nearly right and then broken, kind by kind; real ones are broken byte by byte. The suite tries a few
hundred of each. `HEADSTART_FUZZ=5000 pytest tests/test_tasks/test_sheet_fuzz.py` tries as many of each as it says.
"""

import os
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_sheets import MADE

from tasks.errors import SheetError
from tasks.settings import SheetSettings
from tasks.sheets.load import load_sheet

EXAMPLES = int(os.environ.get("HEADSTART_FUZZ", max(100, 2 * settings().max_examples)))
SECONDS, MOST_ROWS, LONGEST_MESSAGE = 5, 300, 100_000


def outcome(path, *, ignore_unknown):
    """The rows that a sheet became, or the sentence that refused it; anything else fails."""
    begun = time.process_time()
    sheet = told = None
    try:
        sheet = load_sheet(SheetSettings(path=str(path), max_rows=MOST_ROWS, ignore_unknown=ignore_unknown))
    except SheetError as refused:
        told = str(refused)
    assert time.process_time() - begun < SECONDS
    return sheet, told


def check_rows(sheet):
    assert 0 < len(sheet.rows) <= MOST_ROWS
    for row in sheet.rows:
        for value in (row.id, row.identity, row.prompt, row.base_prompt):
            assert isinstance(value, str)
            assert value.strip()
    assert len({row.id for row in sheet.rows}) == len(sheet.rows)
    # All of them can be written down.
    assert len(sheet.digest) == 64


def check_sentence(told):
    assert 20 < len(told.strip()) < LONGEST_MESSAGE
    # It can be printed.
    assert told.encode()


@pytest.mark.parametrize("kind", MADE)
def test_a_sheet_is_read_or_refused_in_a_sentence(kind, tmp_path):
    seen = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(MADE[kind], st.booleans())
    def each(made, ignore_unknown):
        ending, data = made
        path = tmp_path / f"sheet{ending}"
        path.write_bytes(data)
        sheet, told = outcome(path, ignore_unknown=ignore_unknown)
        if told is None:
            check_rows(sheet)
        else:
            check_sentence(told)
        seen["read" if told is None else "refused"] += 1

    each()
    # Sheets that are all refused, or all read, would show nothing.
    assert min(seen["read"], seen["refused"]) > EXAMPLES // 50
