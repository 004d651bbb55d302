"""What a good sheet becomes, whatever kind of file it is."""

import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.settings import SheetSettings
from tasks.sheets.load import load_sheet

ROWS = [
    {"identity": "fox", "prompt": "a fox runs", "seed": 3, "tags": "red, quick"},
    {"identity": "owl", "prompt": "一只猫头鹰，微笑", "seed": 4, "tags": "night"},
]


def sheet_at(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_sheet(SheetSettings(path=str(path)))


def as_csv(delimiter):
    return "\n".join(
        [delimiter.join(ROWS[0])] + [delimiter.join(f'"{value}"' for value in row.values()) for row in ROWS]
    )


def as_parquet():
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


SAME = {
    "s.csv": as_csv(","),
    "s.tsv": as_csv("\t"),
    # As Excel saves a CSV where the comma is the decimal sign, and what a clipboard gives.
    "semicolons.csv": as_csv(";"),
    "tabs.csv": as_csv("\t"),
    "commas.tsv": as_csv(","),
    "crlf.csv": as_csv(",").replace("\n", "\r\n"),
    "bom.csv": b"\xef\xbb\xbf" + as_csv(",").encode(),
    "s.jsonl": "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
    "s.yaml": json.dumps(ROWS),
    "s.parquet": as_parquet(),
}


@pytest.mark.parametrize("name", sorted(SAME))
def test_all_kinds_of_file_give_the_same_rows(tmp_path, name):
    sheet = sheet_at(tmp_path, name, SAME[name])
    first, second = sheet.rows
    assert (first.id, first.identity, first.prompt, first.seed, first.tags) == (
        "fox-a-fox-runs", "fox", "a fox runs", 3, ("red", "quick"),
    )  # fmt: skip
    assert (second.identity, second.prompt, second.seed) == ("owl", "一只猫头鹰，微笑", 4)
    assert sheet.digest == sheet_at(tmp_path, "s.csv", SAME["s.csv"]).digest


def test_standard_input_is_a_sheet(monkeypatch):
    fake = io.TextIOWrapper(io.BytesIO(b"identity,prompt\nfox,runs\n"))
    monkeypatch.setattr(sys, "stdin", fake)
    assert load_sheet(SheetSettings(path="-")).rows[0].prompt == "runs"


def test_a_url_is_a_sheet():
    import fsspec

    with fsspec.open("memory://sheets/s.csv", "wb") as file:
        file.write(b"identity,prompt\nfox,runs\n")
    assert load_sheet(SheetSettings(path="memory://sheets/s.csv")).root == "memory://sheets"


def test_quotes_and_line_breaks_in_cells_keep_the_line_numbers_right(tmp_path):
    sheet = sheet_at(tmp_path, "q.csv", 'identity,prompt\nfox,"says ""hi""\nand runs"\nowl,flies\n')
    assert sheet.rows[0].prompt == 'says "hi"\nand runs'
    assert [row.place for row in sheet.rows] == ["q.csv:2", "q.csv:4"]


def test_templates_times_lists(tmp_path):
    sheet = sheet_at(
        tmp_path, "t.csv", 'identity,prompt,motion,light\nfox,"{identity} {motion} in {light}",runs|sits,sun|rain\n'
    )
    assert [row.prompt for row in sheet.rows] == [
        "fox runs in sun",
        "fox runs in rain",
        "fox sits in sun",
        "fox sits in rain",
    ]
    assert len({row.id for row in sheet.rows}) == 4
    # Without a base prompt the first prompt lends itself, so all four start from one prior.
    assert {row.base_prompt for row in sheet.rows} == {"fox runs in sun"}


def test_six_motions_times_twenty_identities_need_two_entries(tmp_path):
    identities = {f"cat{number}": {"seed": number, "base_prompt": "a cat"} for number in range(20)}
    document = {
        "identities": identities,
        "lists": {"motion": ["turns", "smiles", "waves", "nods", "blinks", "bows"]},
        "rows": [{"identity": "*", "prompt": "a cat {motion}"}],
    }
    sheet = sheet_at(tmp_path, "m.yaml", json.dumps(document))
    assert len(sheet.rows) == 120
    assert {row.seed for row in sheet.rows} == set(range(20))
    assert {row.base_prompt for row in sheet.rows} == {"a cat"}


def test_plain_braces_are_doubled(tmp_path):
    assert sheet_at(tmp_path, "b.csv", "identity,prompt\nfox,a {{fox}}\n").rows[0].prompt == "a {fox}"


def test_values_of_a_list_are_never_read_as_templates(tmp_path):
    sheet = sheet_at(tmp_path, "n.csv", "identity,prompt,motion\nfox,a {motion},{motion}|{other}\n")
    assert [row.prompt for row in sheet.rows] == ["a {motion}", "a {other}"]


def test_seed_ranges_and_repeats(tmp_path):
    sheet = sheet_at(tmp_path, "r.csv", "identity,prompt,seed,repeat\nfox,runs,3..5,\nowl,flies,7,2\n")
    assert [(row.identity, row.seed) for row in sheet.rows] == [
        ("fox", 3),
        ("fox", 4),
        ("fox", 5),
        ("owl", 7),
        ("owl", 8),
    ]


def test_repeats_count_from_the_seed_of_the_batch_where_a_row_names_none(tmp_path):
    (tmp_path / "r.csv").write_text("identity,prompt,seed,repeat\nfox,runs,,3\nowl,flies,7,2\n")
    sheet = load_sheet(SheetSettings(path=str(tmp_path / "r.csv")), seed=100)
    assert [row.seed for row in sheet.rows] == [100, 101, 102, 7, 8]


def test_a_row_may_say_how_it_starts(tmp_path):
    sheet = sheet_at(tmp_path, "s.csv", "identity,prompt,start\nfox,runs,Line\nfox,sits,\n")
    assert [row.start for row in sheet.rows] == ["line", None]
    plain = sheet_at(tmp_path, "p.csv", "identity,prompt\nfox,runs\nfox,sits\n")
    assert sheet.digest != plain.digest
    # Sheets that were there before the column keep their digest.
    assert plain.digest == "74b5ce42500407d01878bb82c45f1633bab7664bc8c45a660e0a65c90e25aede"


def test_a_decimal_comma_is_a_number(tmp_path):
    assert sheet_at(tmp_path, "g.csv", "identity;prompt;guidance\nfox;runs;4,5\n").rows[0].guidance == 4.5


def test_unknown_columns_are_left_out_where_that_is_wanted(tmp_path):
    (tmp_path / "u.csv").write_text("identity,prompt,colour,note,motion\nfox,{motion},red,,runs\n")
    sheet = load_sheet(SheetSettings(path=str(tmp_path / "u.csv"), ignore_unknown=True))
    assert [row.prompt for row in sheet.rows] == ["runs"]
    assert sheet.warnings == (
        "u.csv:2: column 'colour' is unknown and ignored",
        "u.csv:2: column 'note' is unknown and ignored",
    )


def test_two_base_prompts_of_one_identity_are_noted(tmp_path):
    sheet = sheet_at(tmp_path, "b.csv", "identity,prompt,base_prompt\nfox,runs,a fox\nfox,sits,a red fox\nowl,flies,\n")
    assert sheet.warnings == ("identity 'fox' has 2 base prompts (at b.csv:2, b.csv:3), so it gets a prior for each",)


def test_what_is_said_once_of_an_identity_holds_for_its_other_rows(tmp_path):
    sheet = sheet_at(tmp_path, "i.csv", "identity,prompt,base_prompt,width\nfox,runs,a fox,64\nfox,sits,,\n")
    assert [(row.base_prompt, row.width) for row in sheet.rows] == [("a fox", 64), ("a fox", 64)]


def test_identities_may_stand_in_their_own_file(tmp_path):
    (tmp_path / "who.csv").write_text("identity,base_prompt,seed\nfox,a red fox,11\n")
    (tmp_path / "s.csv").write_text("identity,prompt\nfox,runs\n")
    sheet = load_sheet(SheetSettings(path=str(tmp_path / "s.csv"), identities=str(tmp_path / "who.csv")))
    assert (sheet.rows[0].base_prompt, sheet.rows[0].seed) == ("a red fox", 11)
