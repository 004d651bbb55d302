"""What it costs to keep the state of every row in the store while a run goes.

    python benchmarks/workflow/run_state.py [rows]

Rows begin and end as fast as this process can say so, in turns of ten groups, which is the worst that a batch does to the
files of a thousand rows each. Prints milliseconds a row, of the driver's thread and in all, and what was written.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main(count: int = 10_000) -> None:
    """Measure once."""
    from prior_store import Store
    from tasks.result import Result
    from tasks.run_state import RowState, RunState, read_states

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        written: list[int] = []
        plain = store.put_batch_file
        store.put_batch_file = lambda batch, name, content: written.append(len(content)) or plain(batch, name, content)
        rows = [RowState(id=f"a-row-with-a-name-{n}", kind="variant", key=f"{n:064x}") for n in range(count)]
        wall, cpu = time.perf_counter(), time.process_time()
        with RunState(store, "b", rows) as state:
            spoken = time.perf_counter()
            for group in range(10):
                for number in range(group, count, 10):
                    state.begun([rows[number].id])
                    state.ended(Result(id=rows[number].id, kind="variant", key=rows[number].key, status="done"))
            spoken = time.perf_counter() - spoken
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        began = time.perf_counter()
        assert {row.state for row in read_states(store, "b")} == {"done"}
        print(
            f"{count} rows: {1000 * spoken / count:.4f} ms a row on the driver's thread, {1000 * cpu / count:.4f} ms of CPU and "
            f"{1000 * wall / count:.4f} ms in all; {len(written)} writes, {sum(written) / 2**20:.1f} MiB; "
            f"read back in {time.perf_counter() - began:.2f} s"
        )


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
