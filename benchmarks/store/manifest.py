"""How quick the manifest is: scans and lookups at 10^3 to 10^6 rows after compaction, and before it.

    python benchmarks/store/manifest.py [--url FOLDER] [--rows 1000,10000,100000,1000000] [--repeat 5]

Prints a Markdown table of medians. Each figure is a fresh `Store` object: nothing is kept in memory between them, the
files are in the page cache.
"""

import argparse
import datetime as dt
import hashlib
import random
import statistics
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prior_store import Store
from prior_store.layout import BASE, LOG, fragment_path
from prior_store.manifest.parquet import compacted_bytes, fragment_bytes
from prior_store.manifest.schema import SCHEMA

WORDS = [
    "a",
    "cat",
    "dog",
    "slowly",
    "runs",
    "through",
    "neon",
    "rain",
    "forest",
    "morning",
    "light",
    "camera",
    "pans",
    "left",
    "close",
    "up",
    "of",
    "old",
    "hands",
]
ROWS_PER_BATCH = 2_000
VARIANTS_PER_IDENTITY = 20


def key_of(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def invented_rows(count, first=0):
    """Make rows as a batch would: all columns filled, prompts that differ."""
    rng = random.Random(first)
    keys = [key_of(number) for number in range(first, first + count)]
    identities = [key_of(-1 - number // VARIANTS_PER_IDENTITY) for number in range(first, first + count)]
    now = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    times = pa.array(
        [now + dt.timedelta(seconds=number) for number in range(first, first + count)], SCHEMA.field("created_at").type
    )
    seconds = np.random.default_rng(first).random(count) * 30
    columns = {
        "kind": ["variants"] * count,
        "key": keys,
        "parent_key": identities,
        "identity": identities,
        "batch": [f"20261101-{number // ROWS_PER_BATCH:05d}" for number in range(first, first + count)],
        "row_id": [f"row-{number}" for number in range(count)],
        "status": ["done"] * count,
        "attempts": [1] * count,
        "prompt": [" ".join(rng.choices(WORDS, k=14)) for _ in range(count)],
        "negative_prompt": ["blurry, low quality"] * count,
        "seed": [rng.randrange(2**31) for _ in range(count)],
        "start_step": [6] * count,
        "sigma": [0.7142857142857143] * count,
        "steps_run": [3] * count,
        "steps_full": [10] * count,
        "model": ["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"] * count,
        "model_fingerprint": [key_of("model")] * count,
        "scheduler": ["UniPCMultistepScheduler"] * count,
        "grid": ['{"kind": "wan", "steps": 10, "shift": 5}'] * count,
        "width": [832] * count,
        "height": [480] * count,
        "frames": [81] * count,
        "fps": [16.0] * count,
        "dtype": ["bfloat16"] * count,
        "latents_uri": [f"variants/{key[:2]}/{key}/a00000001-{key[:16]}/latents.safetensors" for key in keys],
        "video_uri": [f"variants/{key[:2]}/{key}/a00000001-{key[:16]}/video.mp4" for key in keys],
        "preview_uri": [f"variants/{key[:2]}/{key}/a00000001-{key[:16]}/preview.png" for key in keys],
        "bytes": [rng.randrange(10**7) for _ in range(count)],
        "sha256": [key_of(key) for key in keys],
        "denoise_s": seconds,
        "decode_s": seconds / 3,
        "write_s": seconds / 50,
        "device": ["NVIDIA H100 80GB HBM3"] * count,
        "versions": ['{"diffusers": "0.42.1", "torch": "2.13.0"}'] * count,
        "tags": [["nightly"]] * count,
        "created_at": times,
        "recorded_at": times,
    }
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(count, field.type)
        for field in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def median_s(action, repeat):
    """Time an action on a fresh store each time; give the median in seconds."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(url, count, repeat):
    """Fill a store with one compacted file and ask it the questions that people and planners ask."""
    url = f"{url}/rows-{count}"
    store = Store.open(url)
    began = time.perf_counter()
    content = compacted_bytes(invented_rows(count), [])
    build_s = time.perf_counter() - began
    store.files.put(fragment_path(BASE), content)
    some = [key_of(number) for number in range(0, min(count, 20_000), 2)]
    missing = [key_of(f"missing {number}") for number in range(10_000 - len(some))]

    def ask(**question):
        return Store.open(url, create=False).manifest(**question)

    questions = {
        "three columns": (lambda: ask(columns=["key", "status", "denoise_s"]), count),
        "one key": (lambda: ask(filter=pc.field("key") == key_of(count // 2)), 1),
        "one batch": (lambda: ask(filter=pc.field("batch") == "20261101-00000"), min(count, ROWS_PER_BATCH)),
        "one identity": (
            lambda: ask(filter=pc.field("identity") == key_of(-1 - count // 40)),
            VARIANTS_PER_IDENTITY,
        ),
        "10,000 keys": (
            lambda: Store.open(url, create=False).rows_by_key(some + missing, ["status", "start_step", "latents_uri"]),
            len(some),
        ),
    }
    figures = {}
    for name, (question, expected) in questions.items():
        answer = question()
        assert len(answer) == expected, (name, len(answer), expected)
        figures[name] = median_s(question, repeat)
    return {"MB": len(content) / 1e6, "write": build_s, **figures}


def measure_fragments(url, count, repeat):
    """Read a manifest that nobody has compacted, and compact it."""
    url = f"{url}/fragments-{count}"
    store = Store.open(url)
    for number in range(count):
        store.files.put(fragment_path(LOG), fragment_bytes(invented_rows(1, first=number)))
    cold = median_s(lambda: Store.open(url).manifest(columns=["key"]), repeat)
    warm_store = Store.open(url)
    warm_store.manifest(columns=["key"])
    warm = median_s(lambda: warm_store.manifest(columns=["key"]), repeat)
    began = time.perf_counter()
    store.compact(grace_s=0)
    return cold, warm, time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="where to build the stores; a temporary folder if not given")
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--fragments", default="100,1000")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or folder
        header = None
        for count in map(int, filter(None, arguments.rows.split(","))):
            figures = measure(url, count, arguments.repeat)
            if header is None:
                header = ["rows", *figures]
                print("|", " | ".join(header), "|\n|" + "---|" * len(header))
            print(f"| {count:,} | " + " | ".join(f"{value:.3f}" for value in figures.values()), "|", flush=True)
        print("\n| fragments | first read | read again | compact |\n|---|---|---|---|")
        for count in map(int, filter(None, arguments.fragments.split(","))):
            print(
                f"| {count:,} | " + " | ".join(f"{v:.3f}" for v in measure_fragments(url, count, arguments.repeat)), "|"
            )


if __name__ == "__main__":
    main()
