"""How quick commits and snapshots are: commit latency with 8 writers, snapshot throughput against a raw copy.

python benchmarks/store/speed.py [--s3] [--writers 8] [--seconds 15] [--snapshots 10] [--mib 8]
"""

import argparse
import os
import secrets
import shutil
import statistics
import sys
import time
from pathlib import Path

import torch

from prior_store import Store, recipe_key
from prior_store.testing import recipe_of

# The writers are those of the tests, which no installation holds.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.test_store import workers
from tests.test_store.conftest import place


def writer(url, options, worker, folder, ends):
    """Commit small objects until the time is over; write down how long each took."""
    store, times, number = Store.open(url, storage_options=options), [], 0
    while time.time() < ends:
        recipe = recipe_of(worker * 100_000 + number)
        began = time.perf_counter()
        with store.claim("variants", recipe_key(recipe)) as claim:
            claim.put_file("video.mp4", b"video" * 1000)
            claim.publish(recipe=recipe, row={"seed": number})
        times.append(time.perf_counter() - began)
        number += 1
    Path(folder, f"{worker}.times").write_text("\n".join(map(str, times)))


def latency(url, options, folder, arguments):
    """Measure claim + one small file + commit + row, with many writers at once."""
    ends = time.time() + 3 + arguments.seconds
    workers.run_all(writer, [(url, options, number, folder, ends) for number in range(arguments.writers)])
    times = sorted(float(line) for path in Path(folder).glob("*.times") for line in path.read_text().split())
    cut = statistics.quantiles(times, n=100)
    print(
        f"commit latency, {arguments.writers} writers: p50 {cut[49] * 1e3:.0f} ms, p99 {cut[98] * 1e3:.0f} ms "
        f"({len(times)} commits)", flush=True,
    )  # fmt: skip


def throughput(url, options, folder, arguments):
    """Publish and load snapshots; beside them, the same bytes written, flushed and read without any store."""
    store = Store.open(url, storage_options=options)
    latents = torch.randn(arguments.mib * 2**20 // 2, dtype=torch.float32).to(torch.bfloat16)
    total = arguments.mib * arguments.snapshots / 1024
    recipe = {**recipe_of(1), "run": secrets.token_hex(4)}
    began = time.perf_counter()
    with store.claim("priors", recipe_key(recipe)) as claim:
        for step in range(arguments.snapshots):
            claim.put_tensors(f"step_{step:04d}.safetensors", {"latents": latents})
        commit = claim.publish(recipe=recipe)
    publish = time.perf_counter() - began
    loads = {}
    for verify in (True, False):
        reader = Store.open(url, storage_options=options, verify_hashes=verify)
        began = time.perf_counter()
        for name in commit.files:
            tensors, _ = reader.read_tensors(commit, name)
            tensors["latents"].sum()  # touch every page, as a pipeline would
        loads[verify] = time.perf_counter() - began
    content = bytes(latents.view(torch.uint8).numpy())
    raw_write, raw_read = raw(store, folder, content, arguments)
    print(
        f"{arguments.snapshots} snapshots of {arguments.mib} MiB, GiB/s: publish {total / publish:.2f} "
        f"(raw write {total / raw_write:.2f}), load {total / loads[True]:.2f} with sha256, {total / loads[False]:.2f} without "
        f"(raw read {total / raw_read:.2f})", flush=True,
    )  # fmt: skip


def raw(store, folder, content, arguments):
    """Time the same bytes through the plainest way the backend has."""
    names = [f"raw-{number}" for number in range(arguments.snapshots)]
    if store.files.local_path("x") is not None:
        source = Path(folder, "source")
        source.write_bytes(content)
        began = time.perf_counter()
        for name in names:
            with source.open("rb") as read, Path(folder, name).open("wb") as write:
                shutil.copyfileobj(read, write, 2**23)
                write.flush()
                os.fsync(write.fileno())
        wrote = time.perf_counter() - began
        began = time.perf_counter()
        for name in names:
            torch.frombuffer(bytearray(Path(folder, name).read_bytes()), dtype=torch.bfloat16).sum()
        return wrote, time.perf_counter() - began
    fs, prefix = store.files.fs, store.files.prefix
    began = time.perf_counter()
    for name in names:
        fs.pipe_file(f"{prefix}/{name}", content)
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    for name in names:
        torch.frombuffer(bytearray(fs.cat_file(f"{prefix}/{name}")), dtype=torch.bfloat16).sum()
    return wrote, time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--snapshots", type=int, default=10)
    parser.add_argument("--mib", type=int, default=8)
    arguments = parser.parse_args()
    with place(s3=arguments.s3) as (url, options, folder):
        Store.open(url, storage_options=options)
        latency(url, options, folder, arguments)
        throughput(url, options, folder, arguments)


if __name__ == "__main__":
    main()
