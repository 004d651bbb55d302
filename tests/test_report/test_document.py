"""The figures of a report, above all of the batches that did not go smoothly."""

import json
import os

import pytest

from tasks.errors import PlanError
from tasks.pages.document import report_document
from tasks.pages.report import latest_batch, page, write_report, write_single_file


def told(document, what="status"):
    return {row["id"]: row[what] for prior in document["identities"] for row in prior["variants"]}


def test_a_smooth_batch(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p"), made.variant("y", "p")])
    made.row("priors", "p")
    made.row("variants", "x")
    made.row("variants", "y", batch="an earlier one")
    document = report_document(made.store, "b")
    assert told(document) == {"x": "done", "y": "cached"}
    figures = document["summary"]
    assert (figures["rows"], figures["done"], figures["cached"], figures["failed"], figures["missing"]) == (
        2,
        1,
        1,
        0,
        0,
    )
    assert (figures["variant_steps"], figures["prior_steps"], figures["scratch_steps"]) == (6, 10, 20)
    assert figures["steps_saved"] == 4
    assert figures["seconds_per_variant"] == 1.5, "loading is paid once and told apart"


def test_a_start_on_the_straight_line_is_told(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p", start="line", tail=3), made.variant("y", "p")])
    made.row("priors", "p")
    made.row("variants", "x")
    made.row("variants", "y")
    assert told(report_document(made.store, "b"), "on_line") == {"x": True, "y": False}
    html = page(report_document(made.store, "b"))
    assert html.count("from the straight line, step 6 (sigma 0.800), re-spaced tail") == 1
    assert html.count("from step 6 (sigma 0.800)") == 1


def test_an_interrupted_batch_says_what_is_missing_and_counts_no_steps_for_it(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p"), made.variant("y", "p")])
    made.row("priors", "p")
    made.row("variants", "x")
    document = report_document(made.store, "b")
    assert told(document) == {"x": "done", "y": "missing"}
    assert document["summary"]["scratch_steps"] == 10
    assert document["summary"]["steps_saved"] == -3, "one variant does not pay for its prior, and the report says so"


def test_a_failure_of_another_batch_is_not_told_as_one_of_this(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p")])
    made.row("priors", "p")
    made.row("variants", "x", status="failed", batch="last week", error="disk full")
    assert told(report_document(made.store, "b")) == {"x": "missing"}


def test_rows_below_a_failed_prior_fail_with_its_reason(made):
    rows = [made.variant("x", "p"), made.variant("child", "p", parent="x")]
    made.plan("b", [made.prior("p")], rows)
    made.row("priors", "p", status="failed", error="the model ran out of memory")
    document = report_document(made.store, "b")
    assert told(document) == {"x": "failed", "child": "failed"}
    assert all("ran out of memory" in error for error in told(document, "error").values())
    assert document["summary"]["failed"] == 2
    assert document["identities"][0]["error"] == "the model ran out of memory"


def test_a_variant_of_a_variant_fails_with_its_parent_only(made):
    rows = [made.variant("x", "p"), made.variant("child", "p", parent="x"), made.variant("y", "p")]
    made.plan("b", [made.prior("p")], rows)
    made.row("priors", "p")
    made.row("variants", "x", status="failed", error="NaN")
    made.row("variants", "y")
    assert told(report_document(made.store, "b")) == {"x": "failed", "child": "failed", "y": "done"}


def test_rows_that_share_a_video_count_its_steps_once(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p", key="same"), made.variant("y", "p", key="same")])
    made.row("priors", "p")
    made.row("variants", "same")
    figures = report_document(made.store, "b")["summary"]
    assert (figures["done"], figures["videos"], figures["variant_steps"], figures["scratch_steps"]) == (2, 1, 3, 10)


def test_priors_of_one_name_are_told_apart(made):
    priors = [made.prior("p1", seed=1), made.prior("p2", seed=2), made.prior("p3", seed=2), made.prior("q", "owl")]
    made.plan("b", priors, [made.variant("x", "p1")])
    titles = [prior["title"] for prior in report_document(made.store, "b")["identities"]]
    assert len(set(titles)) == 4
    assert titles[0] == "fox, seed 1"
    assert titles[3] == "owl"


def test_a_video_that_was_removed_since_is_missing_and_not_a_dead_link(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p")])
    made.row("priors", "p")
    made.row("variants", "x", status="removed", video_uri="gone.mp4")
    document = report_document(made.store, "b")
    assert told(document) == {"x": "missing"}
    assert told(document, "video") == {"x": None}


@pytest.mark.process
def test_links_are_relative_so_that_the_store_can_move(made):
    made.media()
    made.plan("b", [made.prior("p")], [made.variant("x", "p")])
    made.row("priors", "p")
    made.row("variants", "x")
    write_report(made.store, "b")
    folder = made.store.files.local_path("batches/b")
    document = json.loads((folder / "report.json").read_text())
    assert (folder / told(document, "video")["x"]).resolve().is_file()
    assert str(folder) not in (folder / "report.html").read_text()


def test_the_page_and_the_json_say_the_same(made):
    made.plan("b", [made.prior("p")], [made.variant("x", "p"), made.variant("y", "p")])
    made.row("priors", "p")
    made.row("variants", "x", status="failed", error="a very particular reason")
    write_report(made.store, "b")
    folder = made.store.files.local_path("batches/b")
    text, document = (folder / "report.html").read_text(), json.loads((folder / "report.json").read_text())
    for row_id, error in told(document, "error").items():
        assert row_id in text
        assert error is None or error in text


def test_the_latest_batch_is_the_one_launched_last_not_the_last_in_the_alphabet(made):
    for number, name in enumerate(["zebra-1", "ant-1"]):
        made.plan(name, [], [])
        path = made.store.files.local_path(f"batches/{name}/plan.json")
        os.utime(path, (1000 + number, 1000 + number))
    assert latest_batch(made.store) == "ant-1"


def test_no_batch_yet_is_one_sentence(made):
    with pytest.raises(PlanError, match="no batch yet"):
        latest_batch(made.store)


def test_an_empty_sheet_is_a_page_too(made):
    made.plan("b", [], [])
    assert "<h1>b</h1>" in page(report_document(made.store, "b"))


def test_a_single_file_that_cannot_be_written_is_one_sentence(made, tmp_path):
    made.plan("b", [], [])
    (tmp_path / "file").write_text("")
    with pytest.raises(PlanError, match="name another place: --out"):
        write_single_file(made.store, "b", tmp_path / "file" / "report.html")
