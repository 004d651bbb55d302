"""The store's laws under load, longer than the tests run them: nothing lost, nothing doubled, nothing hidden.

    python benchmarks/store/promises.py [--s3] [--processes 16] [--commits 200] [--soak 30]

With --s3 a SeaweedFS server is started on free ports for the run. Ends with an error if a law is broken.
"""

import argparse
import sys
import time
from pathlib import Path

from prior_store import Store

# The writers are those of the tests, which no installation holds.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.test_store import workers
from tests.test_store.conftest import place


def storm(arguments):
    """Let many processes commit at once and count."""
    with place(s3=arguments.s3) as (url, options, folder):
        began = time.perf_counter()
        result = workers.commit_storm(url, options, folder, arguments.processes, arguments.commits)
        took = time.perf_counter() - began
        lost = len(result["acknowledged"] - set(result["keys"]))
        doubled = len(result["keys"]) - len(set(result["keys"]))
        print(
            f"{arguments.processes} processes x {arguments.commits} commits: {len(result['acknowledged'])} acknowledged, "
            f"{lost} lost, {doubled} doubled, {took:.1f} s, {len(result['acknowledged']) / took:.0f} commits/s", flush=True,
        )  # fmt: skip
        assert result["codes"] == [0] * arguments.processes
        assert (lost, doubled) == (0, 0)
        assert len(result["acknowledged"]) == arguments.processes * arguments.commits
        assert Store.open(url, storage_options=options).verify(quick=True).ok


def soak(arguments):
    """Let writers, readers and compactors work on one manifest for a while."""
    with place(s3=arguments.s3) as (url, options, folder):
        result = workers.soak(url, options, folder, arguments.soak)
        print(
            f"{arguments.soak} s of 4 writers, 2 readers, 2 compactors without grace: {len(result['acknowledged'])} rows "
            f"acknowledged, {result['reads']} reads, {result['compactions']} compactions, "
            f"{len(result['acknowledged'] - set(result['keys']))} lost, {sum(code != 0 for code in result['codes'])} failed",
            flush=True,
        )
        assert set(result["codes"]) == {0}
        assert result["acknowledged"] == set(result["keys"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--commits", type=int, default=200)
    parser.add_argument("--soak", type=int, default=30)
    arguments = parser.parse_args()
    storm(arguments)
    soak(arguments)


if __name__ == "__main__":
    main()
