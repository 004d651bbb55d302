"""Work that costs nothing, as functions that any process can find: what the laws of the driver are tried on."""

from pathlib import Path

from tasks.errors import InterruptedBatchError
from tasks.making.runtime import runtime_for
from tasks.result import Result

# A folder, in the work itself, is how work in another process says what it did.


def plain(items, context):
    """Each item is made; what its name asks for happens."""
    stop = runtime_for(context).stop
    results = []
    for name, folder in items:
        with (Path(folder) / name).open("a") as file:
            file.write("x")
        tries = (Path(folder) / name).stat().st_size
        if stop.is_set():
            raise InterruptedBatchError("told to stop", results)
        if name.startswith("told"):
            raise InterruptedBatchError("told to stop", results)
        if name.startswith("crash"):
            raise RuntimeError("the machinery broke")
        if name.startswith("wait"):
            if not stop.wait(60):
                raise TimeoutError("nobody said stop")
            raise InterruptedBatchError("told to stop", results)
        bad = name.startswith(("bad", "full")) or (name.startswith("shaky") and tries < 2)
        results.append(
            Result(
                id=name,
                kind="variant",
                key=name,
                status="failed" if bad else "done",
                error="it broke" if bad else None,
                transient=name.startswith("shaky"),
                for_all=name.startswith("full"),
                seconds={"denoise": 0.01 if name.startswith("quick") else 20.0, "load": 60.0},
                attempts=context.attempt,
            )
        )
    return results
