"""What each way of making passes quicker or smaller changes: passes of the blocks, results, time. Nothing is a silent nothing.

    python -m benchmarks.engine.faster [--steps 20] [--rounds 3] [--width 256] [--layers 6]

One random Wan of middling size, a prior of so many steps, a variant from a third of it; all in one process, turn by turn.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine.overhead import LENGTH, PROMPT, SIZE, build
from prior_engine import Cache, Conditioning, Engine, Identity, ModelSpec, RunOptions, Schedule

RESULTS = Path(__file__).parents[1] / "results" / "faster_2cpu_202611.json"
TOLD = Conditioning(prompt="it falls off the table", guidance=4.0, max_sequence_length=LENGTH)
PLAIN, UNGUIDED = "plain", "plain, without guidance"
# What is set in the model, the cache of the variant, and the guidance; without it a run is compared with a plain one without it.
WAYS: dict[str, tuple[dict[str, Any], Cache | None, float]] = {
    PLAIN: ({}, None, 4.0),
    "accel.merge_guidance=true": ({"merge_guidance": True}, None, 4.0),
    "accel.compiled=true": ({"compiled": True}, None, 4.0),
    "accel.quantization=float8_e4m3fn": ({"quantization": "float8_e4m3fn"}, None, 4.0),
    "accel.offload=group": ({"offload": "group"}, None, 4.0),
    "accel.cache=first_block, threshold .2": ({}, Cache(kind="first_block", options={"threshold": 0.2}), 4.0),
    # Its ratios are measured in a full run first.
    "accel.cache=mag, threshold .12": ({}, Cache(kind="mag", options={"threshold": 0.12, "mag_ratios": (1.0,)}), 4.0),
    "accel.cache=taylorseer, interval 3": (
        {},
        Cache(kind="taylorseer", options={"cache_interval": 3, "disable_cache_before_step": 2}),
        4.0,
    ),
    UNGUIDED: ({}, None, 1.0),
    "accel.cache=pab, without guidance": (
        {},
        Cache(kind="pab", options={"spatial_attention_timestep_skip_range": (100, 950)}),
        1.0,
    ),
}


class Counted:
    """How many times, and with how many samples, a block's attention and the last block were run."""

    def __init__(self, engine):
        engine._components.need("transformer")
        self.seen = {"last_block_runs": 0, "samples": 0, "attention_runs": 0}
        blocks = engine._components.pipe.transformer.blocks
        blocks[-1].ffn.register_forward_hook(self._block)
        blocks[-1].attn1.to_q.register_forward_hook(self._attention)

    def _block(self, _module, _inputs, out):
        self.seen["last_block_runs"] += 1
        self.seen["samples"] += len(out)

    def _attention(self, *_):
        self.seen["attention_runs"] += 1


def cpu_seconds(run):
    """What a run takes of the processor."""
    began = time.process_time()
    run()
    return time.process_time() - began


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--out", type=Path, default=RESULTS)
    chosen = options.parse_args()
    schedule = Schedule(num_inference_steps=chosen.steps)
    identity = Identity(prompt=PROMPT, seed=1, **SIZE)
    start = chosen.steps // 3
    torch.set_num_threads(1)  # so that seconds of the processor do not see what else the machine does
    with tempfile.TemporaryDirectory() as scratch:
        torch.manual_seed(0)
        source = str(build(Path(scratch) / "model", chosen.width, chosen.layers))

        def prepared(more, cache, guidance):
            engine = Engine(ModelSpec(source=source, device="cpu", **more))
            told = replace(TOLD, guidance=guidance)
            prior = list(engine.record(identity, told, schedule))[start]
            if cache is not None and cache.kind == "mag":
                _, ratios = engine.calibrate(identity, told, schedule)
                cache = replace(cache, options={**cache.options, "mag_ratios": ratios})
            counted = Counted(engine)
            return counted, lambda: engine.resume(prior, identity, told, schedule, options=RunOptions(cache=cache))

        ready = {name: prepared(*way) for name, way in WAYS.items()}
        ends = {name: run().latents.latents for name, (_, run) in ready.items()}
        counts = {name: dict(counted.seen) for name, (counted, _) in ready.items()}
        times = [{name: cpu_seconds(run) for name, (_, run) in ready.items()} for _ in range(chosen.rounds)]
    rows = []
    for name, (*_, guidance) in WAYS.items():
        base = PLAIN if guidance > 1 else UNGUIDED
        change = (ends[name] - ends[base]).norm() / ends[base].norm()
        rows.append(
            {
                "way": name,
                # Nothing can be counted inside of compiled blocks.
                **({} if "compiled" in name else counts[name]),
                "same_bits": torch.equal(ends[name], ends[base]),
                "change": float(f"{float(change):.1e}"),
                "time": round(statistics.median(one[name] / one[base] for one in times), 2),
            }
        )
        print(json.dumps(rows[-1]))
    found = {"steps": chosen.steps, "start_step": start, "width": chosen.width, "layers": chosen.layers, "rows": rows}
    chosen.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
