"""Exact resume on a CUDA device: same bits after every step, alone and in batches, and what memory and time it took.

    python -m benchmarks.gpu.engine_exactness [--model FOLDER] [--height 480 --width 832 --frames 81] [--steps 10]

Without --model a random Wan of medium size is built: bits and mechanics, no quality.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.random_models import save_pipeline
from prior_engine import Conditioning, Engine, Identity, ModelSpec, Picture, Schedule, Snapshot

SOLVERS = {
    "euler": {"scheduler": "FlowMatchEulerDiscreteScheduler"},
    "euler-stochastic": {"scheduler": "FlowMatchEulerDiscreteScheduler", "config": {"stochastic_sampling": True}},
    "unipc-2": {"scheduler": "UniPCMultistepScheduler"},
    "unipc-3": {"scheduler": "UniPCMultistepScheduler", "config": {"solver_order": 3}},
    "dpm-2m": {"scheduler": "DPMSolverMultistepScheduler"},
    "dpm-sde": {"scheduler": "DPMSolverMultistepScheduler", "config": {"algorithm_type": "sde-dpmsolver++"}},
    "heun": {"scheduler": "FlowMatchHeunDiscreteScheduler"},
    "lcm": {"scheduler": "FlowMatchLCMScheduler"},
}


def check_solver(engine, identity, told, schedule):
    """Resume after every step from bytes; say after which steps the bits differ."""
    started = time.perf_counter()
    prior = list(engine.record(identity, told, schedule))
    seconds = time.perf_counter() - started
    differs = []
    for snapshot in prior[:-1]:
        again = Snapshot.from_parts(snapshot.tensors(), snapshot.metadata())
        variant = engine.resume(again, identity, told, schedule)
        if not torch.equal(variant.latents.latents, prior[-1].latents):
            differs.append(snapshot.step)
    return {"steps": len(prior), "differs_from": differs, "record_s": round(seconds, 3)}, prior


def check_batch(engine, identity, schedule, snapshot, size=4):
    """The same prompts in another order, and each padded with itself: same bits for one batch size."""
    asked = [Conditioning(prompt=text) for text in ("a red cube", "a blue ball", "a green cone", "a white ring")][:size]
    first = engine.resume_batch(snapshot, identity, asked, schedule, batch_size=size)
    turned = engine.resume_batch(snapshot, identity, asked[::-1], schedule, batch_size=size)[::-1]
    alone = [engine.resume_batch(snapshot, identity, [one], schedule, batch_size=size)[0] for one in asked]
    return {
        "batch_size": size,
        "permuted_same": [
            torch.equal(a.latents.latents, b.latents.latents) for a, b in zip(first, turned, strict=True)
        ],
        "padded_same": [torch.equal(a.latents.latents, b.latents.latents) for a, b in zip(first, alone, strict=True)],
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model")
    options.add_argument("--image")
    options.add_argument("--height", type=int, default=256)
    options.add_argument("--width", type=int, default=256)
    options.add_argument("--frames", type=int, default=17)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--solvers", nargs="*", default=list(SOLVERS))
    options.add_argument("--dtypes", nargs="*", default=["bfloat16", "float32"])
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; run this on a machine that has one")
    result = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "runs": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        source = chosen.model or str(save_pipeline(Path(scratch) / "model", "medium", "cuda", torch.float32))
        image = None if chosen.image is None else Picture.open(chosen.image)
        size = {"height": chosen.height, "width": chosen.width, "frames": chosen.frames}
        identity = Identity(prompt="a red cube", seed=1, image=image, **size)
        for dtype in chosen.dtypes:
            engine = Engine(ModelSpec(source=source, device="cuda", dtype=dtype))
            for name in chosen.solvers:
                torch.cuda.reset_peak_memory_stats()
                schedule = Schedule(num_inference_steps=chosen.steps, **SOLVERS[name])
                row, prior = check_solver(engine, identity, Conditioning(prompt="a red cube"), schedule)
                row["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
                if name == "euler" and engine.info.family.single_batch is None:
                    row["batch"] = check_batch(engine, identity, schedule, prior[chosen.steps // 2])
                result["runs"][f"{dtype}/{name}"] = row
                print(f"{dtype}/{name}: {row}", file=sys.stderr)
            del engine
            torch.cuda.empty_cache()
    print(json.dumps(result, indent=1))
    wrong = [name for name, row in result["runs"].items() if row["differs_from"]]
    sys.exit(f"not exact: {wrong}" if wrong else 0)


if __name__ == "__main__":
    main()
