"""What a plan remarks on before it runs."""

import pytest

from flows.prepare import prepare
from tasks.errors import PlanError

ROWS = """identity,prompt,base_prompt,start_step,start
star,a red star grows,a red star stands still,,
star,a red star moves up,,5,
star,a red star moves down,,6,
star,a red star moves to the left,,6,line
"""


@pytest.fixture
def plan_of(tmp_path):
    def plan(text, *more):
        (tmp_path / "s.csv").write_text(text)
        return prepare([f"sheet={tmp_path / 's.csv'}", f"store={tmp_path / 'store'}", *more]).plan

    return plan


def test_a_start_step_of_a_rows_own_that_leaves_the_line_is_remarked_on(plan_of):
    plan = plan_of(ROWS)
    assert [row.way.start for row in plan.variants] == ["line", "snapshot", "snapshot", "line"]
    (note,) = [note for note in plan.warnings if "straight line" in note]
    assert note.startswith("s.csv:3 and 1 more rows: a row with its own start_step starts from the snapshot")
    assert "add start=line (and tail=3)" in note


def test_nothing_is_remarked_on_where_the_start_was_chosen(plan_of):
    assert not [note for note in plan_of(ROWS, "start=snapshot").warnings if "straight line" in note]


def test_a_start_step_past_the_end_is_told_with_the_other_problems(plan_of):
    with pytest.raises(PlanError, match=r"setting start_step: 99 is past the last step to start from; give 0..8"):
        plan_of(ROWS, "start_step=99")
