"""Sheets that a search among odd ones found to break out: each is refused in a sentence that names the place, and at once."""

import io
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import SheetError
from tasks.settings import SheetSettings
from tasks.sheets.formats.parquet_pages import pages_of
from tasks.sheets.load import load_sheet


def table(**columns):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"identity": ["fox"], "prompt": ["runs"], **columns}), buffer)
    return "s.parquet", buffer.getvalue()


def moment(unit, zone=None, number=0):
    return pa.array([number], pa.int64()).cast(pa.timestamp(unit, zone))


def cell(text):
    return "s.yaml", f"- {{identity: fox, prompt: runs, {text}}}\n"


def merged(times):
    chain = [f"  - &a{number} {{<<: *a{number - 1}}}\n" for number in range(1, times)]
    row = f"rows:\n- {{<<: *a{times - 1}, prompt: 'a {{t}}'}}\n"
    return "s.yaml", "lists:\n  t:\n  - &a0 {identity: fox}\n" + "".join(chain) + row


def pictures(*names):
    return "s.csv", "identity,prompt,image\n" + "".join(f"fox,runs,{name}\n" for name in names)


WHOLE = "a whole number is needed"
REFUSED = {
    "a map": (table(tags=pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))), "row 1, column tags: holds a dict"),
    "a zone that is none": (table(seed=moment("us", "Nowhere/Land")), "column 'seed': holds what cannot be read as"),
    "an offset that is none": (table(seed=moment("us", "+99:00")), "column 'seed': holds what cannot be read as"),
    "a day of no calendar": (table(seed=moment("ms", number=2**62)), "column 'seed': holds what cannot be read as"),
    "a fraction as a seed": (table(seed=[Decimal("1.5")]), f"row 1, column seed: is Decimal('1.5'); {WHOLE}"),
    "bytes as a seed": (table(seed=[b"5"]), f"row 1, column seed: is b'5'; {WHOLE}"),
    "a number without digits": (cell("seed: !!int _"), f"s.yaml:1, column seed: is '_'; {WHOLE}"),
    "a word as a day": (cell("seed: !!timestamp x"), f"s.yaml:1, column seed: is 'x'; {WHOLE}"),
    "a word as yes or no": (cell("prior: !!bool x"), "s.yaml:1, column prior: is 'x'; 'on', 'off' or 'auto' is needed"),
    "merged through many": (merged(1000), "s.yaml: too many mappings are merged into each other with <<"),
    "a seed past the last one": (
        ("s.csv", f"identity,prompt,seed,repeat\nfox,runs,{2**63 - 2},2\nfox,sits,{2**63 - 1},2\n"),
        "s.csv:3, column repeat: the seeds would go on past 9223372036854775807, the largest; start lower",
    ),
    "a cell twice in a row of YAML": (cell("seed: 1, seed: 2"), "s.yaml:1: ['seed'] appear twice; keep one of each"),
    "an identity twice": (
        ("s.yaml", "identities:\n  fox: {seed: 1}\n  fox: {seed: 2}\nrows:\n- {identity: fox, prompt: runs}\n"),
        "s.yaml:2: ['fox'] appear twice",
    ),
    "a section twice": (
        ("s.yaml", "rows:\n- {identity: fox, prompt: runs}\nrows:\n- {identity: fox, prompt: sits}\n"),
        "s.yaml:1: ['rows'] appear twice",
    ),
    "a cell twice in a line of JSON": (
        ("s.jsonl", '{"identity": "fox", "prompt": "runs"}\n{"identity": "fox", "prompt": "a", "prompt": "b"}\n'),
        "s.jsonl:2: ['prompt'] appear twice; keep one of each",
    ),
    "a blank value of a list": (
        ("s.yaml", "lists: {t: [' ']}\nrows:\n- {identity: fox, prompt: '{t}'}\n"),
        "s.yaml:3, column prompt: is empty with its templates filled in; every row needs one",
    ),
}
# What would make a message of the whole sheet, or one that takes long to look through for secrets.
LONG = {
    "two long pictures": (pictures(*[f"{'?pwd' * 4900}{number}" for number in range(5)]), "has two pictures, '?pwd"),
    "a long tag": (("s.yaml", f"- !{'token' * 100_000} x\n"), "s.yaml:1: not plain YAML"),
    "a long column, twice": (("s.csv", f"identity,{'x' * 100_000},{'x' * 100_000}\n"), "appear twice"),
    "a long section": (("s.yaml", f"?{' x' * 100_000}\n: 1\n"), "s.yaml: unknown sections ['x x"),
    "a long list, asked for often": (
        ("s.yaml", f"lists:\n  ? {'token' * 2000}\n  : [a]\nrows:\n" + "- {identity: fox, prompt: 'a {n}'}\n" * 50),
        "template {n} has no list",
    ),
}


def chunks_of(data):
    said = pq.ParquetFile(pa.BufferReader(data)).metadata
    groups = [said.row_group(group) for group in range(said.num_row_groups)]
    return [group.column(column) for group in groups for column in range(said.num_columns)]


def read(sheet, tmp_path):
    name, content = sheet
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_sheet(SheetSettings(path=str(tmp_path / name)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", [*REFUSED, *LONG])
def test_it_is_refused_in_a_sentence(what, tmp_path):
    sheet, said = (REFUSED | LONG)[what]
    with pytest.raises(SheetError) as refused:
        read(sheet, tmp_path)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 20_000


@pytest.mark.parametrize("text", ["seed: !!int ''", "guidance: !!float ''", "seed: ~", "tags: []"])
def test_a_cell_without_a_value_is_an_empty_one(text, tmp_path):
    (row,) = read(cell(text), tmp_path).rows
    assert (row.seed, row.guidance, row.tags) == (None, None, ())


def test_what_is_merged_in_may_be_overruled(tmp_path):
    rows = "rows:\n- &a {identity: fox, seed: 1, prompt: runs}\n- {<<: *a, prompt: sits}\n- {<<: *a, seed: 2}\n"
    read_rows = read(("s.yaml", rows), tmp_path).rows
    assert [(row.seed, row.prompt) for row in read_rows] == [(1, "runs"), (1, "sits"), (2, "runs")]


@pytest.mark.parametrize("seeds", [[Decimal("3.000")], [3.0], ["3"], pa.array([3], pa.uint8())])
def test_a_whole_number_is_one_in_every_spelling(seeds, tmp_path):
    assert [row.seed for row in read(table(seed=seeds), tmp_path).rows] == [3]


def test_a_few_merges_are_followed(tmp_path):
    assert [row.identity for row in read(merged(50), tmp_path).rows] == ["fox"] * 50


def test_lists_are_read_across_the_groups_of_a_table(tmp_path):
    rows = {"identity": ["fox"] * 3, "prompt": ["runs"] * 3, "tags": [["a", "b"], [], ["a"]]}
    pq.write_table(pa.table(rows), tmp_path / "s.parquet", row_group_size=2)
    assert [row.tags for row in load_sheet(SheetSettings(path=str(tmp_path / "s.parquet"))).rows] == [
        ("a", "b"),
        (),
        ("a",),
    ]


@pytest.mark.parametrize("pages", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli"])
def test_a_table_is_measured_however_it_is_packed(pages, compression, tmp_path):
    rows = {"identity": ["fox"] * 500, "prompt": [f"runs {number}" for number in range(500)]}
    packed = {"compression": compression, "data_page_version": pages, "row_group_size": 200, "data_page_size": 500}
    pq.write_table(
        pa.table(rows),
        tmp_path / "s.parquet",
        write_batch_size=20,
        write_page_index=True,
        write_page_checksum=True,
        **packed,
    )
    assert len(load_sheet(SheetSettings(path=str(tmp_path / "s.parquet"))).rows) == 500
    data = (tmp_path / "s.parquet").read_bytes()
    for chunk in chunks_of(data):
        first = chunk.dictionary_page_offset or chunk.data_page_offset
        pages = list(pages_of(data, first, chunk.total_compressed_size))
        assert sum(page.values for page in pages) == chunk.num_values
        # What the end of the file says counts the headers as well.
        assert 0 < chunk.total_uncompressed_size - sum(page.unpacked for page in pages) < 100 * len(pages)
