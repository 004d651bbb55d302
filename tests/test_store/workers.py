"""What other processes do in the tests: started from a clean server process, so that forks are quick and safe."""

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

from prior_store import Store, recipe_key
from prior_store.care.gc import Retention
from prior_store.testing import fill, put_object, recipe_of

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.test_store.workers", "s3fs", "pyarrow.dataset", "prior_store.manifest.index"])


def start(target, *arguments):
    """Start one process, from the main thread alone.

    A start also asks all earlier children whether they have ended, and their exit status can be read once: of two
    threads that ask at the same time, one gets the status and the other 255.
    """
    assert threading.current_thread() is threading.main_thread(), "start children from the main thread"
    process = CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def run_all(target, argument_lists, patience_s=200, at_once=16):
    """Run one process per argument list, so many at once; give their exit codes."""
    codes, waiting = [], list(argument_lists)
    while waiting:
        processes = [start(target, *arguments) for arguments in waiting[:at_once]]
        del waiting[:at_once]
        ends = time.monotonic() + patience_s
        for process in processes:
            process.join(max(0.0, ends - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
        codes += [process.exitcode for process in processes]
    return codes


def kill_me_at(number):
    """Make a fault point that ends this process like a power cut at the given write."""
    count, one_by_one = 0, threading.Lock()

    def fault_point(_stage, _path):
        nonlocal count
        with one_by_one:
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return fault_point


def commit_many(url, options, worker, count, acknowledged):
    """Commit small objects one by one and write down each that was acknowledged."""
    store = Store.open(url, storage_options=options)
    with Path(acknowledged).open("a", encoding="ascii") as file:
        for number in range(count):
            recipe = recipe_of(worker * 100_000 + number)
            key = recipe_key(recipe)
            with store.claim("variants", key) as claim:
                claim.put_file("latents.bin", key.encode())
                claim.publish(recipe=recipe, row={"seed": number, "batch": f"b{worker}"})
            file.write(f"{key}\n")
            file.flush()


def make_once(url, options, number, ttl_s, work_s, log):
    """Ask for one key; write down when work began, ended, or was found done."""
    store = Store.open(url, storage_options=options)
    recipe = recipe_of(number)
    with store.claim("priors", recipe_key(recipe), ttl_s=ttl_s) as claim:
        if claim.commit is not None:
            note(log, "found")
            return
        note(log, "began")
        time.sleep(work_s)
        fill(claim, number)
        claim.publish(recipe=recipe)
        note(log, "published")


def note(log, what):
    """Write one line at once; lines this short are never mixed up."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{what} {os.getpid()} {time.monotonic():.3f}\n".encode())
    os.close(handle)


def put_and_die(url, options, kill_at):
    """Publish one object and be killed on the way."""
    store = Store.open(url, storage_options=options, fault_point=kill_me_at(kill_at))
    put_object(store, 7, ttl_s=0.5)


def compact_and_die(url, options, kill_at, grace_s):
    """Compact and be killed on the way."""
    store = Store.open(url, storage_options=options, fault_point=kill_me_at(kill_at))
    store.compact(grace_s=grace_s)


def collect_and_die(url, options, kill_at):
    """Clean up everything that can be cleaned and be killed on the way."""
    store = Store.open(url, storage_options=options, fault_point=kill_me_at(kill_at))
    store.gc(dry_run=False, grace_s=-60, unused_steps=True, retention=Retention(batches=["old"]))


def repair_and_die(url, options, kill_at):
    """Repair and be killed on the way."""
    store = Store.open(url, storage_options=options, fault_point=kill_me_at(kill_at))
    store.repair()


def acknowledged_in(folder):
    """Read which keys have been acknowledged so far; a line without its end is still being written."""
    keys = set()
    for path in Path(folder).glob("*.acknowledged"):
        whole, _, _ = path.read_text().rpartition("\n")
        keys.update(whole.split())
    return keys


def commit_until(url, options, worker, folder, ends):
    """Commit until the time is over."""
    store = Store.open(url, storage_options=options)
    with (Path(folder) / f"{worker}.acknowledged").open("a", encoding="ascii") as file:
        number = 0
        while time.time() < ends:
            recipe = recipe_of(worker * 100_000 + number)
            key = recipe_key(recipe)
            store.add_rows([{"kind": "variants", "key": key, "status": "failed", "seed": number}])
            file.write(f"{key}\n")
            file.flush()
            number += 1


def read_until(url, options, worker, folder, ends):
    """Read until the time is over; each read must show every row that was acknowledged before it began, once."""
    store, reads = Store.open(url, storage_options=options), 0
    while time.time() < ends:
        before = acknowledged_in(folder)
        keys = store.manifest(columns=["key"])["key"].to_pylist()
        if len(set(keys)) != len(keys) or not before <= set(keys):
            note(Path(folder) / "problems", f"{len(before - set(keys))}-missing")
            raise SystemExit(1)
        reads += 1
    note(Path(folder) / "reads", str(reads))


def compact_until(url, options, worker, folder, ends):
    """Compact without grace until the time is over."""
    store, compactions = Store.open(url, storage_options=options), 0
    while time.time() < ends:
        compactions += store.compact(grace_s=0).written is not None
        time.sleep(0.05)
    note(Path(folder) / "compactions", str(compactions))


def soak(url, options, folder, seconds, *, writers=4, readers=2, compactors=2):
    """Let writers, readers and compactors loose on one manifest; give the counts of what they did."""
    Store.open(url, storage_options=options)
    ends = time.time() + seconds
    roles = [(commit_until, writers), (read_until, readers), (compact_until, compactors)]
    processes = [
        start(target, url, options, worker, str(folder), ends) for target, count in roles for worker in range(count)
    ]
    for process in processes:
        process.join(seconds + 120)
    counts = {name: _sum_of(Path(folder) / name) for name in ("reads", "compactions")}
    return {
        "codes": [process.exitcode for process in processes],
        "acknowledged": acknowledged_in(folder),
        "keys": Store.open(url, storage_options=options).manifest(columns=["key"])["key"].to_pylist(),
        **counts,
    }


def _sum_of(path):
    return sum(int(line.split()[0]) for line in path.read_text().splitlines()) if path.exists() else 0


def commit_storm(url, options, folder, processes, count):
    """Let many processes commit at once; give exit codes, acknowledged keys and what the manifest shows."""
    Store.open(url, storage_options=options)
    codes = run_all(
        commit_many,
        [(url, options, worker, count, f"{folder}/{worker}.acknowledged") for worker in range(processes)],
        patience_s=900,
        at_once=processes,
    )
    return {
        "codes": codes,
        "acknowledged": acknowledged_in(folder),
        "keys": Store.open(url, storage_options=options).manifest(columns=["key"])["key"].to_pylist(),
    }
