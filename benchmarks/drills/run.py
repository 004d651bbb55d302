"""Drills: harm is done to real batches and attacks are tried, and a table says what came of it.

    python -m benchmarks.drills.run            the long form: over 400 injections, about half an hour on two cores
    python -m benchmarks.drills.run --short    each kind a few times, under three minutes
    python -m benchmarks.drills.run --only killed frozen --times 50 --seed 3

Exit code 0 when everything held. The judge (checker.py) reads the stores with pyarrow, json and hashlib alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drills import attacks, crashes, servers
from benchmarks.drills.stage import ROOT, Stage, Tally

# Kind, what it does, how often in the long form and in the short one.
_HARM: list[tuple[str, Callable[[Stage, Tally], None], int, int]] = [
    ("killed", crashes.killed, 20, 3),
    ("stopped", crashes.stopped, 10, 2),
    ("two at once", crashes.together, 5, 1),
    ("frozen", crashes.frozen, 5, 1),
    ("file cut short", crashes.cut_file, 10, 1),
    ("file gone", crashes.lost_file, 10, 1),
    ("manifest torn", crashes.torn_fragment, 10, 1),
]
# Each counts by itself what it tries.
_ATTACKS: list[tuple[str, Callable[[Stage, Tally], None], bool]] = [
    ("hostile sheets", attacks.hostile_sheets, False),
    ("pictures elsewhere", attacks.escapes, True),
    ("secrets in settings", attacks.secrets, False),
    ("strangers", attacks.strangers, True),
    ("forms", attacks.forms, True),
    ("models with code", attacks.models, False),
]
_SERVER_KILLS = 20


def main() -> int:
    """Run what was asked for, and print the table."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--short", action="store_true")
    asked.add_argument("--only", nargs="*", default=None)
    asked.add_argument("--times", type=int, default=None)
    asked.add_argument("--seed", type=int, default=1)
    options = asked.parse_args()
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "test_engine")]
    import tiny_models
    from prepared import Prepared

    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drills-") as folder:
        scratch = Path(folder)
        model = tiny_models.build("wan-t2v", scratch / "model")
        prepared = Prepared()
        try:
            tallies = _all(options, scratch, model, prepared)
        finally:
            prepared.close()
    columns = ("times", "lost", "doubled", "wrong", "escaped", "leaked")
    print(f"{'kind':22}" + "".join(f"{name:>9}" for name in columns) + "  held")
    for tally in tallies:
        print(
            f"{tally.kind:22}"
            + "".join(f"{getattr(tally, name):>9}" for name in columns)
            + f"  {'yes' if tally.holds else 'NO'}"
        )
    for tally in tallies:
        for problem in tally.failed[:10]:
            print(f"{tally.kind}: {problem}")
    total = sum(tally.times for tally in tallies)
    print(f"{total} injections of {len(tallies)} kinds in {time.monotonic() - begun:.0f} s (seed {options.seed})")
    return 0 if all(tally.holds for tally in tallies) else 1


def _all(options: argparse.Namespace, scratch: Path, model: Path, prepared: Any) -> list[Tally]:
    rng, wanted = random.Random(options.seed), options.only
    undisturbed = Stage(scratch / "reference", model, prepared, rng)
    code, said = undisturbed.run("run", "-q")
    if code != 0:
        raise SystemExit(f"the undisturbed run ended with {code}: {said}")
    reference = undisturbed.look().bits()
    tallies = []

    def drill(kind: str, times: int, once: Callable[[Stage, Tally], None], *, counts: bool = True) -> None:
        if wanted and kind not in wanted:
            return
        tally = Tally(kind)
        for number in range(options.times or times):
            stage = Stage(scratch / f"{kind.replace(' ', '-')}-{number}", model, prepared, rng, reference)
            once(stage, tally)
            tally.times += counts
        tallies.append(tally)
        print(f"{kind}: {tally.times} times, {'held' if tally.holds else tally}", file=sys.stderr)

    for kind, harm, long, short in _HARM:
        drill(kind, short if options.short else long, harm)
    for kind, attack, also_short in _ATTACKS:
        if also_short or not options.short:
            drill(kind, 1, attack, counts=False)
    if not options.short:
        drill("server killed", _SERVER_KILLS, lambda stage, tally: servers.killed(stage, tally, rng.uniform(0, 61)))
    return tallies


if __name__ == "__main__":
    sys.exit(main())
