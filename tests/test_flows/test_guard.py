"""The guard in a whole batch: what is stuck is marked, and tried from earlier where that was asked for."""

import json

SHEET = """identity,id,prompt,base_prompt,seed
star,same,a red star stands still,a red star stands still,1
star,away,a red star moves to the left,a red star stands still,1
"""
# Almost at the end of the walk nothing can change any more; at its beginning everything can.
DEMO = ["sheet=sheet.csv", "store=store", "server=none", "start_step=8", "tail=exact"]


def rows_of(bench, batch):
    table = [row for row in bench.store().manifest().to_pylist() if row["batch"] == batch]
    return {row["row_id"]: row | json.loads(row["extra"] or "{}") for row in table if row["kind"] == "variants"}


def test_a_variant_that_is_stuck_is_marked_and_tried_from_earlier(bench):
    (bench.folder / "sheet.csv").write_text(SHEET)
    bench.settings = DEMO
    plain = bench.run("run", "batch=plain")
    assert plain.returncode == 0, plain.stderr
    assert "guard" not in rows_of(bench, "plain")["away"]

    # Looking changes no result, so nothing is made again for it.
    looked = bench.run("run", "guard=on")
    assert "Nothing to do" in looked.stdout

    again = bench.run("run", "guard=on", "guard.retry_earlier=8", "batch=again")
    assert again.returncode == 0, again.stderr
    rows = rows_of(bench, "again")
    moved = {name: rows[name]["guard"] for name in ("same", "away")}
    # Both were stuck at 8 and walked again from 0: one was told to move and does, the other was not.
    assert {name: one["started"] for name, one in moved.items()} == {"same": 0, "away": 0}
    assert rows["away"]["start_step"] == 0
    assert rows["away"]["steps_run"] == 1 + 9
    assert moved["away"]["mark"] is None
    assert moved["same"]["mark"] == "did not move away from its prior"
    assert "Doubtful: 1, marked in the report: same" in again.stdout
    report = json.loads((bench.folder / "store" / "batches" / "again" / "report.json").read_text())
    assert report["summary"]["doubtful"] == 1
    assert 'class="badge doubt"' in (bench.folder / "store" / "batches" / "again" / "report.html").read_text()

    assert "Nothing to do" in bench.run("run", "guard=on", "guard.retry_earlier=8").stdout


def test_a_look_alone_is_kept_with_the_row(bench):
    (bench.folder / "sheet.csv").write_text(SHEET)
    bench.settings = DEMO
    result = bench.run("run", "guard=on", "batch=looked")
    assert result.returncode == 0, result.stderr
    assert {name: row["guard"]["mark"] for name, row in rows_of(bench, "looked").items()} == dict.fromkeys(
        ("same", "away"), "did not move away from its prior"
    )
    assert "Doubtful: 2" in result.stdout
