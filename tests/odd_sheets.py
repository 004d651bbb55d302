"""Sheets that are nearly right, each kind of file broken in the ways that it can be."""

import csv
import io
import json
import string
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo" / "sheets" / "demo.csv"
REAL = [path for path in sorted((ROOT / "tests" / "bad_sheets").iterdir()) if path.name != "messages.json"]

SIGNS = [
    "{", "}", "{{", "}}", "{t}", "{u}", "{identity}", "{prompt}", "{}", "{ }", "|", "||", ",", ";", "\t", '"', '""', "'", "\\",
    "\n", "\r", "\r\n", "\x00", "\x1a", "\x1c", "\x85", "\xa0", "\u2028", "\u200b", "\ufeff", "\ufffe", "\U0001f98a", "e\u0301", "²", "٣",
    "..", "1..3", "3..1", "..1", "1..", "*", "&a ", "*a ", "<<: ", "!!int ", "!!set ", "!!python/object:os.system ", "- ",
    ": ", "? ", "# ", "[", "]", "- [", "~", "%", "@", "|", ">", "---\n", "...\n", "PK\x03\x04", "PAR1", "://", "::", "s3://a:b@c/", "?token=",
]  # fmt: skip
NUMBERS = [
    "0", "1", "2", "-1", "+3", "5.0", "4,5", "1e3", "1e400", "-0", "nan", "NaN", "inf", "-Infinity", "0x10", "0b1", "1_000", "1:10:10",
    "9" * 40, "9" * 400, "0." + "3" * 50, "True", "9223372036854775807", "18446744073709551616", "99999999999999999999..1",
]  # fmt: skip
GOOD = {
    "identity": ["fox"],
    "id": ["row0"],
    "image": ["fox.png"],
    "video": ["fox.mp4", "fox/*.png"],
    "mask": ["fox.png"],
    "references": ["a.png;b.png", "a.png"],
    "control_scale": ["0.5", "0,5"],
    "base_prompt": ["a fox", "{identity}"],
    "seed": ["3", "1..3", "7"],
    "start_step": ["auto", "2"],
    "start": ["line", "snapshot"],
    "tail": ["exact", "3", "auto"],
    "guidance": ["4.5", "4,5", "0"],
    "prior": ["on", "off", "auto"],
    "width": ["64"],
    "frames": ["9", "9.0"],
    "lora": ["a.safetensors:0.5", "a.safetensors;b.safetensors:-1"],
    "tags": ["red, quick", "a;b|c"],
    "parent": ["row0", ""],
    "repeat": ["2", "3"],
    "t": ["runs|sits", "runs"],
    "u": ["now|then"],
}
letters = st.text(st.sampled_from(string.ascii_letters + string.digits + " .-_"), max_size=6)
anything = st.text(max_size=8)
odd_text = st.lists(st.sampled_from(SIGNS) | letters | anything, max_size=5).map("".join) | st.sampled_from(NUMBERS)
odd_names = st.sampled_from(
    ["", " ", "Prompt", "IDENTITY ", "\ufeffid", "x" * 120, "t", "u", "colour", "promt", "pass"]
)
odd_values = (
    odd_text
    | st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 5)
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=5)
    | st.sampled_from(NUMBERS).filter(str.isdigit).map(int)
)
odd_cells = st.recursive(
    odd_values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def tables(draw, odd):
    """Columns, and rows of cells: nearly right, with something odd here and there."""
    prompts = draw(
        st.sampled_from([["a fox runs"], ["{identity} says {{hi}}"], ["it {t}"], ["{t} and {t} and {u}", "a fox runs"]])
    )
    lists = [name for name in ("t", "u") if any(f"{{{name}}}" in prompt for prompt in prompts)]
    more = draw(st.lists(st.sampled_from(sorted(set(GOOD) - {"identity", "t", "u"})), max_size=3, unique=True))
    columns = ["identity", "prompt", *lists, *more]
    if "parent" in more and "id" not in more:
        columns.append("id")
    oddness = draw(st.sampled_from([0, 0, 1, 4]))
    rows = []
    for number in range(draw(st.integers(0 if oddness else 1, 4))):
        row = {}
        for column in columns:
            values = prompts if column == "prompt" else GOOD[column]
            known = f"row{number}" if column == "id" else draw(st.sampled_from(values))
            row[column] = draw(odd) if oddness and draw(st.integers(0, 9)) < oddness else known
        rows.append(row)
    if oddness and draw(st.booleans()):
        old, new = draw(st.sampled_from(columns)), draw(odd_names | st.sampled_from(columns) | odd_text)
        columns = [new if column == old else column for column in columns]
        rows = [dict(zip(columns, row.values(), strict=False)) for row in rows]
    return columns, rows


@st.composite
def broken(draw, data, often=4):
    """Bytes with some of them changed, doubled, left out, or moved; `often` in ten stay whole."""
    if draw(st.integers(0, 9)) < often:
        return data
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 8, 100])))
        piece = draw(
            st.sampled_from(SIGNS).map(str.encode)
            | st.binary(max_size=3)
            | st.sampled_from([b"", data[start:end] * 2, data[:start], b'"', b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\r"])
        )
        data = data[:start] + piece + data[end:]
    return data


@st.composite
def delimited(draw, usual):
    columns, rows = draw(tables(odd_text))
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=draw(st.sampled_from([usual, usual, usual, ",", ";", "\t"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    writer.writerow(columns)
    for row in rows:
        cells = list(row.values())
        writer.writerow(cells[: draw(st.integers(0, len(cells)))] if draw(st.integers(0, 9)) == 0 else cells)
    head = draw(st.sampled_from(["", "", "\ufeff", "\n\n", ",,\n"]))
    return draw(broken((head + out.getvalue()).encode(errors="surrogatepass")))


def plain(cell):
    """The cell as JSON has it."""
    if isinstance(cell, dict):
        return {str(key): plain(value) for key, value in cell.items()}
    if isinstance(cell, list):
        return [plain(part) for part in cell]
    return cell if cell is None or isinstance(cell, str | bool | int | float) else str(cell)


@st.composite
def json_lines(draw):
    _, rows = draw(tables(odd_cells))
    ascii_only = draw(st.booleans())
    lines = [json.dumps(plain(row), ensure_ascii=ascii_only) for row in rows]
    if draw(st.integers(0, 4)) == 0:
        odd = [
            "",
            "null",
            "[]",
            "7",
            '{"prompt": "\\ud800", "identity": "f"}',
            '{"identity": ["f", "\\udfff"], "prompt": "a"}',
        ]
        odd += [
            '{"\\ud800": 1, "identity": "f", "prompt": "a"}',
            '{"a": ' * 60 + "1" + "}" * 60,
            "[" * 3000,
            '{"identity": 1e999}',
        ]
        lines.append(draw(st.sampled_from(odd)))
    return draw(broken("\n".join(lines).encode(errors="surrogatepass")))


TAGS = [
    "int",
    "float",
    "bool",
    "null",
    "timestamp",
    "binary",
    "str",
    "set",
    "omap",
    "pairs",
    "map",
    "seq",
    "merge",
    "value",
]


@st.composite
def yaml_pieces(draw):
    """YAML by hand: tags on what they do not fit, anchors, merges, everything that no writer would write."""
    words = st.sampled_from(
        [*NUMBERS[:16], "", "_", "-", ".", ":", "a", "''", '"\\x41"', "2001-01-01", "2001-99-99", "=", "<<", "~", "yes"]
    )
    words |= st.sampled_from(
        ["2001-01-01t10:00:00+99:99", "9999-12-31 23:59:59 -10:00", "0o7", "08", "0b", "0x", ".inf", "[]", "{}", "*a"]
    )
    tagged = st.tuples(
        st.sampled_from(["", "", "&a ", "&b "]),
        st.sampled_from(["", *[f"!!{tag} " for tag in TAGS], "! ", "!x "]),
        words,
    )
    cells = tagged.map("".join)
    cells = cells | st.lists(cells, max_size=3).map(lambda parts: f"[{', '.join(parts)}]")
    cells = cells | st.dictionaries(words, cells, max_size=2).map(
        lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
    )
    keys = st.sampled_from([*GOOD, "<<", "? [a]", "~", "1", "=", "!!int x", "&k identity"])
    row = st.dictionaries(keys, cells, max_size=3).map(
        lambda d: "- {identity: fox, prompt: runs" + "".join(f", {k}: {v}" for k, v in d.items()) + "}"
    )
    rows = "\n".join(draw(st.lists(row, max_size=3)))
    sections = draw(st.lists(st.sampled_from(["lists", "identities", "rows", "more", "<<", "1"]), max_size=2))
    if not sections and draw(st.booleans()):
        return rows
    inner = [
        f"{name}: {draw(cells)}"
        if draw(st.booleans())
        else f"{name}:\n  t: {draw(cells)}\n  {draw(words)}: {draw(cells)}"
        for name in sections
    ]
    return "\n".join([*inner, "rows:", rows])


@st.composite
def yaml_text(draw):
    if draw(st.booleans()):
        return draw(broken(draw(yaml_pieces()).encode(), often=8))
    _, rows = draw(tables(odd_cells))
    document = rows
    if draw(st.booleans()):
        document = {"rows": rows}
        if draw(st.booleans()):
            document["lists"] = {"t": draw(st.lists(odd_values, max_size=3)), "w": ["a"]}
        if draw(st.booleans()):
            document["identities"] = {"fox": {"seed": draw(odd_cells)}, draw(anything): {"base_prompt": "a fox"}}
    text = yaml.safe_dump(
        document, allow_unicode=draw(st.booleans()), default_flow_style=draw(st.sampled_from([None, True, False]))
    )
    return draw(broken(text.encode(errors="replace"), often=6))


moments = st.integers(-(2**62), 2**62)
# What a column of a table may hold, with the values of each.
TYPED = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int8(), st.integers(-5, 9)),
    (pa.float64(), st.floats() | st.sampled_from([1.0, 2.5])),
    (pa.float32(), st.floats(width=32)),
    (pa.float16(), st.floats(width=16)),
    (pa.bool_(), st.booleans()),
    (pa.string(), odd_text),
    (pa.large_string(), odd_text),
    (pa.binary(), st.binary(max_size=4)),
    (pa.binary(4), st.binary(min_size=4, max_size=4)),
    (pa.decimal128(20, 3), st.integers(-9999, 9999).map(lambda n: Decimal(n) / 1000)),
    (pa.decimal256(60, 0), st.sampled_from([Decimal(3), Decimal("9" * 50)])),
    (pa.date32(), st.dates()),
    (pa.date64(), st.dates()),
    (pa.time32("ms"), st.times().map(lambda time: time.replace(microsecond=0))),
    (pa.time64("ns"), st.times()),
    (pa.timestamp("ns"), moments),
    (pa.timestamp("ms"), moments),
    (pa.timestamp("us", "Nowhere/Land"), moments),
    (pa.timestamp("ms", "+99:00"), moments),
    (pa.duration("us"), moments),
    (pa.null(), st.none()),
    (pa.list_(pa.string()), st.lists(odd_text, max_size=3)),
    (pa.large_list(pa.int64()), st.lists(st.integers(0, 9), max_size=3)),
    (pa.list_(pa.int64(), 2), st.lists(st.integers(0, 9), min_size=2, max_size=2)),
    (pa.list_(pa.list_(pa.string())), st.just([["a"]])),
    (pa.struct([("a", pa.int64())]), st.just({"a": 1})),
    (pa.map_(pa.string(), pa.int64()), st.just([("a", 1)])),
    (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["fox", "", "{t}"])),
    (pa.uuid(), st.binary(min_size=16, max_size=16)),
]  # fmt: skip


@st.composite
def parquet(draw):
    columns, rows = draw(tables(st.sampled_from(NUMBERS) | odd_text))
    arrays, names = [], []
    for number, column in enumerate(columns):
        cells = [list(row.values())[number] if number < len(row) else None for row in rows]
        array = pa.array(
            [None if cell is None else cell.encode(errors="replace").decode() for cell in cells], pa.string()
        )
        if draw(st.integers(0, 9)) == 0:
            kind, values = draw(st.sampled_from(TYPED))
            some = [draw(st.none() | values) for _ in rows]
            moment = pa.types.is_timestamp(kind) or pa.types.is_duration(kind)
            array = pa.array(some, pa.int64()).cast(kind) if moment else pa.array(some, kind)
        arrays.append(array)
        names.append(column.encode(errors="replace").decode())
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(arrays, names),
        out,
        compression=draw(st.sampled_from(["none", "snappy", "zstd"])),
        use_dictionary=draw(st.booleans()),
        data_page_version=draw(st.sampled_from(["1.0", "2.0"])),
        row_group_size=draw(st.sampled_from([1, 1000])),
        store_schema=draw(st.booleans()),
    )
    return draw(broken(out.getvalue(), often=7))


@st.composite
def real(draw):
    path = draw(st.just(DEMO) | st.sampled_from(REAL))
    data = path.read_bytes()
    if draw(st.integers(0, 4)) == 0:
        data += draw(st.sampled_from(REAL)).read_bytes()
    return path.suffix or ".csv", draw(broken(data, often=0))


def with_ending(ending):
    return lambda data: (ending, data)


MADE = {
    "csv": delimited(",").map(with_ending(".csv")),
    "tsv": delimited("\t").map(with_ending(".tsv")),
    "jsonl": json_lines().map(with_ending(".jsonl")),
    "yaml": yaml_text().map(with_ending(".yaml")),
    "parquet": parquet().map(with_ending(".parquet")),
    "real": real(),
}
