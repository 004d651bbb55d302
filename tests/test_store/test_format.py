"""The contract with readers that do not know this code: the documented format, its reader, its queries, older stores."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prior_store import Store, recipe_key
from prior_store.care.gc import Retention
from prior_store.layout import LOG, fragment_path
from prior_store.manifest.schema import COLUMNS, SCHEMA, table_of
from prior_store.testing import put_object, recipe_of

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN_STORE = pathlib.Path(__file__).parent / "golden" / "store"
FORMAT = (ROOT / "docs/reference/format.md").read_text()
HOW_TO = (ROOT / "docs/how-to/read-the-manifest.md").read_text()


def code_blocks(text):
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def busy_store(tmp_path):
    """A store with everything in it that a reader has to get right."""
    store = Store.open(tmp_path / "store")
    for number in range(4):
        row = {"batch": f"b{number}", "denoise_s": 100.0, "tags": ["x"]}
        put_object(store, number, kind=("priors", "variants")[number % 2], row=row)
    failed = {"kind": "variants", "key": recipe_key(recipe_of(9)), "status": "failed", "prompt": "cat 9"}
    store.add_rows([failed])
    store.add_rows([{**failed, "key": recipe_key(recipe_of(1)), "error": "a late loser"}])
    store.compact(grace_s=3600)
    store.gc(dry_run=False, grace_s=-60, retention=Retention(batches=["b2", "b3"]))
    store.add_rows([{**failed, "key": recipe_key(recipe_of(3)), "error": "after its removal"}])
    assert store.verify().ok
    return store


def run(code, folder, *arguments):
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments], cwd=folder, capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def expected(store):
    table = store.manifest(columns=["key", "status"])
    return dict(zip(table["key"].to_pylist(), table["status"].to_pylist(), strict=True))


def test_the_model_answer_is_right(busy_store):
    keys = [recipe_key(recipe_of(number)) for number in (0, 1, 3, 9)]
    assert expected(busy_store) == dict(zip(keys, ["done", "done", "failed", "failed"], strict=True))


@pytest.mark.process
def test_the_documented_reader_reads_a_store(busy_store):
    (reader,) = code_blocks(FORMAT)
    code = [line for line in reader.splitlines() if line.strip()]
    assert len([line for line in code if not line.startswith(("import", "from"))]) <= 20
    out = run(reader, "/", str(busy_store.files.local_path("")))
    lines = [line.split() for line in out.splitlines() if not line.startswith(" ")]
    assert {line[1]: line[2] for line in lines} == {key[:12]: status for key, status in expected(busy_store).items()}
    assert out.count("step_0001.safetensors {'latents': [2, 3, 4]}") == 2


@pytest.mark.parametrize("block", range(len(code_blocks(HOW_TO))))
@pytest.mark.process
def test_the_documented_queries_agree(busy_store, block):
    code = code_blocks(HOW_TO)[block]
    if "Store.open" in code:
        assert run(code, busy_store.files.local_path("")) == "2 variants took more than a minute\n"
        return
    tell = {"duckdb": "rows.fetchall()", "polars": "rows.rows()", "pandas": "rows.itertuples(index=False)"}
    name = next(name for name in tell if name in code)
    columns = "rows.columns" if name != "pandas" else "list(rows.columns)"
    code += f"\nimport json\nc = {columns}\n"
    code += f"print('@' + json.dumps({{r[c.index('key')]: r[c.index('status')] for r in {tell[name]}}}))"
    out = run(code, busy_store.files.local_path(""))
    assert json.loads(out.rsplit("@", 1)[1]) == expected(busy_store)


def test_the_format_page_names_every_room_and_field(busy_store):
    from prior_store.layout import ROOMS

    for room in ROOMS:
        assert f"{room}/" in FORMAT
    record = json.loads(busy_store.files.read("STORE.json"))
    commit = busy_store.commit_of("priors", recipe_key(recipe_of(0)))
    for name in (*record, *json.loads(commit.to_json())):
        assert f"`{name}`" in FORMAT or f'"{name}"' in FORMAT, name


def test_every_column_says_what_it_means():
    assert all(len(text) > 5 for _, _, text in COLUMNS)
    assert [SCHEMA.field(name).metadata[b"description"].decode() for name, _, _ in COLUMNS] == [t for *_, t in COLUMNS]


def test_a_store_of_the_first_release_is_still_read(tmp_path):
    shutil.copytree(GOLDEN_STORE, tmp_path / "store")
    store = Store.open(tmp_path / "store", create=False)
    assert store.verify().ok
    rows = sorted(store.manifest().to_pylist(), key=lambda row: row["seed"])
    assert [(row["seed"], row["status"], row["prompt"]) for row in rows] == [
        (1, "done", "a cat"),
        (2, "done", "a dog"),
        (3, "failed", "a bird"),
    ]
    tensors, metadata = store.read_tensors(("priors", rows[0]["key"]), "step_0001.safetensors")
    assert tensors["latents"].float().flatten().tolist() == [0.0, 0.5, 1.0, 1.5]
    assert metadata == {"step": "1"}


def test_rows_of_older_and_newer_releases_are_read(tmp_path):
    store = Store.open(tmp_path / "store")
    key, other = recipe_key(recipe_of(1)), recipe_key(recipe_of(2))
    table = table_of([{"kind": "priors", "key": key, "status": "failed", "seed": 1, "tags": ["t"]}])
    older = table.select(["kind", "key", "status", "recorded_at", "seed"]).set_column(
        4, "seed", pa.array([1], pa.int32())
    )
    newer = table.set_column(1, "key", pa.array([other])).append_column("mood", pa.array(["good"]))
    for part in (older, newer):
        sink = pa.BufferOutputStream()
        pq.write_table(part, sink)
        store.files.put(fragment_path(LOG), bytes(sink.getvalue()))

    def seen():
        return {row["key"]: (row["seed"], row["tags"], row["prompt"]) for row in store.manifest().to_pylist()}

    assert seen() == {key: (1, None, None), other: (1, ["t"], None)}
    store.compact(grace_s=0)
    assert seen() == {key: (1, None, None), other: (1, ["t"], None)}
