"""A batch's folder in the store is its own, whoever else launches one under the same name or in the same second."""

import json

import pytest

from flows import prepare as preparing
from flows.graph.batch import run_batch
from flows.graph.run import Means
from flows.prepare import prepare, with_own_batch
from flows.runners.threads import ThreadRunner
from tests.test_flows.conftest import TINY, sheet_text

pytestmark = pytest.mark.process  # ffmpeg


@pytest.fixture
def prepared(tmp_path, tiny_folder, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))

    def of(identity, *more, name="sheet.csv"):
        folder = tmp_path / identity
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(sheet_text([identity], ["runs"]))
        settings = [f"sheet={folder / name}", f"model={tiny_folder}", *TINY, f"store={tmp_path / 'store'}"]
        return prepare([*settings, *more])

    return of


def run(prepared):
    return run_batch(prepared, Means(make_runner=lambda: ThreadRunner(1)))


def test_two_sheets_of_one_name_in_one_second_keep_both_reports(prepared, monkeypatch):
    class Clock:
        @staticmethod
        def now(_zone):
            from datetime import UTC, datetime

            return datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)

    monkeypatch.setattr(preparing, "datetime", Clock)
    # Both are prepared before either is run: neither can see the other.
    batches = [with_own_batch(one) for one in (prepared("fox"), prepared("owl"))]
    names = [batch.context.batch for batch in batches]
    assert names == ["sheet-20261127-120000", "sheet-20261127-120000-2"]
    results = [run(batch) for batch in batches]
    reports = [json.loads(batches[0].store.read_batch_file(name, "report.json")) for name in names]
    assert [report["identities"][0]["name"] for report in reports] == ["fox", "owl"]
    assert [result.done for result in results] == [1, 1]


def test_a_name_goes_on_with_its_sheet_and_gets_a_number_for_another(prepared):
    named = "batch=tuesday"
    first = with_own_batch(prepared("fox", named))
    run(first)
    report = first.store.read_batch_file("tuesday", "report.json")
    assert with_own_batch(prepared("fox", named)).context.batch == "tuesday"
    other = with_own_batch(prepared("owl", named))
    assert other.context.batch == "tuesday-2"
    run(other)
    assert first.store.read_batch_file("tuesday", "report.json") == report
    assert with_own_batch(prepared("owl", named)).context.batch == "tuesday-2"
