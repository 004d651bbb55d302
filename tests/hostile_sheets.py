"""Small files that would make a great deal, by name; run as a program it measures what reading each of them takes.

Each is made and read in a process of its own, so that one that grows out of bounds ends nothing but itself.
"""

import io
import itertools
import json
import os
import resource
import sys
import time
from pathlib import Path

SECONDS, MEGABYTES = 5, 500
# A busy machine takes longer than its share; what grows out of bounds takes minutes.
SLACK = 3


def _csv(header, *rows):
    return ".csv", "\n".join([header, *rows]) + "\n"


def _yaml(*lines):
    return ".yaml", "\n".join(lines) + "\n"


def _jsonl(*rows):
    return ".jsonl", "\n".join(rows) + "\n"


def _parquet(columns, **written):
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", **written)
    return ".parquet", buffer.getvalue()


def _in_long_cells(columns):
    """Written without the least and the most of each column: to find those costs ten times what the file costs."""
    return _parquet(columns, write_statistics=False)


def _same(word, times):
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), times), pa.array([word]))


def _same_bytes(length, times):
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        pa.repeat(pa.scalar(0, pa.int32()), times), pa.array([b"x" * length], pa.binary(length))
    )


def _in_one_list(values):
    import pyarrow as pa

    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def _varint(number, length):
    return bytes(number >> 7 * index & 127 | (128 if index < length - 1 else 0) for index in range(length))


def _which_says_it_is_small(made):
    """The file, with every large column that its end tells of said to be one of 1000 bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    ending, data = made
    said = pq.ParquetFile(pa.BufferReader(data)).metadata.row_group(0)
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    told = data[end:]
    for index in range(said.num_columns):
        size = said.column(index).total_uncompressed_size
        told = told.replace(_varint(2 * size, 5), _varint(2 * 1000, 5)) if size > 2**28 else told
    assert told != data[end:]
    return ending, data[:end] + told


def _laughs(first, names):
    """A list of ten, ten times in a list, ten times in a list ..."""
    return [first.format("[x, x, x, x, x, x, x, x, x, x]", 0)] + [
        names.format(f"[{', '.join([f'*a{level - 1}'] * 10)}]", level) for level in range(1, 12)
    ]


_NAMES = [f"t{index}" for index in range(20)]
_MANY = [f"{index:x}" for index in range(60_000)]
SHEETS = {
    "a range of seeds, repeated": lambda: _csv("identity,prompt,seed,repeat", "fox,runs,1..100000,100000"),
    "many ranges of seeds": lambda: _csv("identity,prompt,seed", *["fox,runs,1..100000"] * 40_000),
    "twenty templates of ten values": lambda: _csv(
        ",".join(["identity", "prompt", *_NAMES]),
        f'fox,"{"".join(f"{{{name}}}" for name in _NAMES)}",' + ",".join(["a|b|c|d|e|f|g|h|i|j"] * 20),
    ),
    "thousands of templates": lambda: _csv("identity,prompt", f'fox,"{"".join(f"{{{n}}}" for n in _MANY[:2800])}"'),
    "one template, thousands of times": lambda: _csv(
        "identity,prompt,t", f'fox,"{"{t}" * 6000}",{"|".join(f"{n:050}" for n in range(2000))}'
    ),
    "a long value, thousands of times": lambda: _csv("identity,prompt,t", f'fox,"{"{t}" * 6000}",{"x" * 900_000}'),
    "a long identity, thousands of times": lambda: _csv(
        "identity,prompt,base_prompt,repeat", f'{"i" * 100},runs,"{"{identity}" * 1900}",50000'
    ),
    "a million columns": lambda: _csv("identity,prompt" + "," * 900_000, "fox,runs"),
    "many columns with names": lambda: _csv(",".join(["identity", "prompt", *_MANY]), *["fox,runs" + "," * 60_000] * 5),
    "rows alike": lambda: _csv("identity,prompt", *["f,a"] * 99_000),
    "too many rows": lambda: _csv("identity,prompt", *["f,a"] * 240_000),
    "many wrong cells": lambda: _csv("identity,prompt,seed", *["f,a,x"] * 160_000),
    "a chain of parents": lambda: _csv(
        "identity,prompt,id,parent",
        *[f"f,a,{a},{b}" for a, b in itertools.pairwise(_MANY)],
        f"f,a,{_MANY[-1]},",
    ),
    "a circle of parents": lambda: _csv(
        "identity,prompt,id,parent", *[f"f,a,{a},{b}" for a, b in zip(_MANY, [*_MANY[1:], _MANY[0]], strict=True)]
    ),
    "unknown parents": lambda: _csv("identity,prompt,id,parent", *[f"f,a,row{n},rows{n}" for n in _MANY[:40_000]]),
    "many pictures of one": lambda: _csv("identity,prompt,image", *[f"f,a,{name}.png" for name in _MANY]),
    "many tags, repeated": lambda: _csv("identity,prompt,repeat,tags", f'f,a,99000,"{";".join(_MANY)}"'),
    "numbers of thousands of digits": lambda: _csv(
        "identity,prompt,seed,repeat,width,guidance,tail,start_step", "fox,runs," + ",".join(["9" * 150_000] * 6)
    ),
    "json: numbers of thousands of digits": lambda: _jsonl(
        f'{{"identity": "f", "prompt": "a", "seed": {"9" * 5000}, "guidance": {"9" * 4000}, "width": 1e400, "tail": -1e400}}'
    ),
    "json: lists in lists": lambda: _jsonl(f'{{"identity": "f", "prompt": {"[" * 400_000}{"]" * 400_000}}}'),
    "json: lists in lists, less deep": lambda: _jsonl(f'{{"identity": "f", "prompt": {"[" * 900}{"]" * 900}}}'),
    "json: a column for each row": lambda: _jsonl(
        *[f'{{"identity":"f","prompt":"a","x{n}":1}}' for n in _MANY[:22_000]]
    ),
    "json: many identities, many rows": lambda: _jsonl(
        *[f'{{"identity": {json.dumps(_MANY[:1000])}, "prompt": "a"}}' for _ in range(120)]
    ),
    "yaml: a list that laughs": lambda: _yaml(
        "lists:", *_laughs("  a{1}: &a{1} {0}", "  a{1}: &a{1} {0}"), "rows:", "- {identity: fox, prompt: 'a {a11}'}"
    ),
    "yaml: a cell that laughs": lambda: _yaml(
        *_laughs("- {{identity: f, prompt: a, tags: &a{1} {0}}}", "- {{identity: f, prompt: a, seed: &a{1} {0}}}")
    ),
    "yaml: rows merged into rows": lambda: _yaml(
        "- &a0 {identity: fox, prompt: a}",
        *[f"- &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, 25)],
    ),
    "yaml: one row, many times": lambda: _yaml(
        f"- &a {{identity: f, prompt: runs, tags: [{'a,' * 5000}]}}", *["- *a"] * 180_000
    ),
    "yaml: a row within itself": lambda: _yaml("- &a {identity: fox, prompt: a, <<: *a}"),
    "yaml: lists in lists": lambda: _yaml(f"- {{identity: f, prompt: {'[' * 100_000}{']' * 100_000}}}"),
    "yaml: lists in lists, less deep": lambda: _yaml(f"- {{identity: f, prompt: {'[' * 300}{']' * 300}}}"),
    "yaml: many values": lambda: _yaml(f"- {{identity: f, prompt: a, tags: [{'a,' * 480_000}]}}"),
    "yaml: many rows": lambda: _yaml(*["- {identity: fox, prompt: runs}"] * 30_000),
    "yaml: a number in sixties": lambda: _yaml(f"- {{identity: f, prompt: a, seed: 1{':10' * 300_000}}}"),
    "yaml: numbers and days that are none": lambda: _yaml(
        f"- {{identity: f, prompt: 9999-99-99, seed: {'9' * 5000}, width: 0x{'f' * 90_000}, guidance: 1{':10' * 9000}.5}}"
    ),
    "yaml: everyone, in many rows": lambda: _yaml(
        "identities:",
        *[f"  {name}: {{}}" for name in _MANY[:20_000]],
        "rows:",
        *["- {identity: '*', prompt: a}"] * 20_000,
    ),
    "yaml: many lists, many rows without one": lambda: _yaml(
        "lists:", *[f" m{name}: [a]" for name in _MANY[:30_000]], "rows:", *["- {identity: f, prompt: 'a {no}'}"] * 5000
    ),
    "parquet: many rows of one word": lambda: _parquet(dict.fromkeys(("identity", "prompt"), _same("fox", 5_000_000))),
    "parquet: a long word, in many rows": lambda: _parquet(
        {"identity": _same("f", 90_000), "prompt": _same("x" * 20_000, 90_000)}
    ),
    "parquet: a cell of 400 MB": lambda: _in_long_cells({"identity": ["fox"], "prompt": ["x" * 400_000_000]}),
    "parquet: a cell of 400 MB that is said to be short": lambda: _which_says_it_is_small(
        _in_long_cells({"identity": ["fox"], "prompt": ["x" * 400_000_000]})
    ),
    "parquet: bytes of one length, in many rows": lambda: _in_long_cells(
        {"identity": _same("f", 10_000), "prompt": _same("a", 10_000), "tags": _same_bytes(100_000, 10_000)}
    ),
    "parquet: words that begin alike": lambda: _parquet(
        {"identity": ["f"] * 10_000, "prompt": [f"{'x' * 19_000}{number}" for number in range(10_000)]},
        use_dictionary=False,
        column_encoding={"identity": "PLAIN", "prompt": "DELTA_BYTE_ARRAY"},
    ),
    "parquet: a list of a long word": lambda: _parquet(
        {"identity": ["f"], "prompt": ["a"], "tags": _in_one_list(_same("x" * 1000, 20_000_000))}
    ),
    "parquet: a shorter list of a long word": lambda: _parquet(
        {"identity": ["f"], "prompt": ["a"], "tags": _in_one_list(_same("x" * 10_000, 900_000))}
    ),
}


def _make(name, folder):
    ending, content = SHEETS[name]()
    data = content.encode() if isinstance(content, str) else content
    assert len(data) < 1_000_000, (name, len(data))
    (folder / f"sheet{ending}").write_bytes(data)


def _read(folder):
    """Seconds, megabytes and what came of it."""
    from tasks.errors import SheetError
    from tasks.settings import SheetSettings
    from tasks.sheets.load import load_sheet

    (sheet,) = folder.iterdir()
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS * SLACK, SECONDS * SLACK))
    begun = time.process_time()
    try:
        said = f"{len(load_sheet(SheetSettings(path=str(sheet))).rows)} rows"
    except SheetError as error:
        said = f"refused: {error}"
    except Exception as error:  # noqa: BLE001 - whatever else it is, it is told
        said = f"{type(error).__name__}: {error}"
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return time.process_time() - begun, int(peak.split()[1]) // 1024, said


def _apart(call, *arguments):
    """What `call` gives in a process of its own, None if that came to an end before."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            json.dump(call(*arguments), out)
            out.flush()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


if __name__ == "__main__":
    # Imported here once, so that no child counts it as its own.
    import pyarrow.parquet  # noqa: F401

    import tasks.sheets.load  # noqa: F401

    for name in SHEETS:
        folder = Path(sys.argv[1]) / name.replace(":", "")
        folder.mkdir()
        _apart(_make, name, folder)
        print(json.dumps([name, _apart(_read, folder)]), flush=True)
