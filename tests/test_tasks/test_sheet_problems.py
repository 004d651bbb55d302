"""Every way in which a sheet can be wrong has its own exact message, and all problems are told at once."""

import json
from pathlib import Path

import pytest

from flows.compose import compose_settings
from flows.prepare import prepare_settings
from tasks.errors import PlanError, SheetError
from tasks.settings import SheetSettings
from tasks.sheets.load import load_sheet

FOLDER = Path(__file__).resolve().parent.parent / "bad_sheets"
MESSAGES = json.loads((FOLDER / "messages.json").read_text(encoding="utf-8"))


def test_every_bad_sheet_has_its_message():
    assert sorted(MESSAGES) == sorted(path.name for path in FOLDER.iterdir() if path.name != "messages.json")
    assert len(MESSAGES) >= 40


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return compose_settings(["model=demo", f"store={tmp_path_factory.mktemp('store')}"])


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_a_bad_sheet_is_refused_with_exactly_this(name, monkeypatch, settings):
    monkeypatch.chdir(FOLDER.parent.parent)
    # What only the model can know (steps, lengths, pictures) is found by the plan, still before any weights are read.
    sheet = settings.sheet.model_copy(update={"path": f"tests/bad_sheets/{name}"})
    with pytest.raises((SheetError, PlanError)) as refused:
        prepare_settings(settings.model_copy(update={"sheet": sheet}))
    assert str(refused.value).replace(str(FOLDER.parent), "TESTS") == MESSAGES[name]


def test_a_missing_sheet_says_what_to_give(tmp_path):
    with pytest.raises(SheetError, match=r"there is no sheet at .*give the path of a CSV"):
        load_sheet(SheetSettings(path=str(tmp_path / "none.csv")))


def test_no_sheet_at_all_says_how_to_name_one():
    with pytest.raises(SheetError, match=r"headstart run my\.csv"):
        load_sheet(SheetSettings())


def test_a_sheet_that_explodes_is_stopped(tmp_path):
    path = tmp_path / "big.csv"
    path.write_text("identity,prompt,repeat\nfox,runs,100000\nowl,flies,100000\n")
    with pytest.raises(SheetError, match="more than 1000 rows after expansion"):
        load_sheet(SheetSettings(path=str(path), max_rows=1000))


def test_yaml_aliases_may_be_used(tmp_path):
    path = tmp_path / "aliases.yaml"
    path.write_text(
        "rows:\n- &fox {identity: fox, prompt: &say 'a {m}', seed: 3}\n- {<<: *fox, id: owl, identity: owl}\n"
        "lists: {n: &all [runs, sits], m: *all}\n"
    )
    rows = load_sheet(SheetSettings(path=str(path))).rows
    assert [(row.identity, row.prompt, row.seed) for row in rows] == [
        (identity, f"a {does}", 3) for identity in ("fox", "owl") for does in ("runs", "sits")
    ]
