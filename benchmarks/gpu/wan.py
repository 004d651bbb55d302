"""What Wan costs on this machine: a step, a variant, a decode, by real sizes and random weights. No hub is asked.

    python -m benchmarks.gpu.wan [--sizes 1.3B 14B] [--height 480 --width 832 --frames 81] [--out FOLDER]

Bits, seconds and bytes are real; pictures are noise. Each part is written down as soon as it is measured, so a run that is
cut short keeps what it has. Under ten minutes on one large card; `--sizes tiny` runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.random_models import SIZES, SMALL_TEXT, XXL, save_pipeline, step_flops, text_encoder, transformer
from prior_engine import Conditioning, Engine, Identity, ModelSpec, ResumeOptions, RunOptions, Schedule
from prior_engine.requests.steps import Keep
from prior_engine.video import write_video

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
LONG, TAIL, FULL, LESS = 30, 3, 5.0, 3.0
A, B = "a red fox sits in the snow", "a red fox leaps over a stream"


class Sheet:
    """The results so far, kept on disk."""

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path, self.facts = path, facts

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        """Measure one part; what goes wrong in it is written down in its place."""
        began = time.perf_counter()
        _forget()
        try:
            told = measure()
        except Exception as error:  # noqa: BLE001 - the parts after it are still worth having
            traceback.print_exc()
            told = {"failed": f"{type(error).__name__}: {error}"}
        told["took_s"] = round(time.perf_counter() - began, 1)
        self.facts[name] = told
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.facts, indent=1))
        print(f"{name}: {json.dumps(told)}", file=sys.stderr, flush=True)


def _forget() -> None:
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak() -> float | None:
    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if DEVICE == "cuda" else None


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    made = work()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return made, time.perf_counter() - began


class Run:
    """One model folder in one engine: a prior of thirty steps, and what is made from it."""

    def __init__(self, folder: Path, size: dict[str, int], steps: int) -> None:
        self.folder, self.size, self.schedule = folder, size, Schedule(num_inference_steps=steps)
        self.identity = Identity(prompt=A, seed=1, **size)
        self.prior: list[Any] = []
        self.engine = self.made()

    def made(self, **more: Any) -> Engine:
        return Engine(ModelSpec(source=str(self.folder), device=DEVICE, dtype=str(DTYPE).partition(".")[2], **more))

    def recorded(self) -> dict[str, Any]:
        """The full run, every step kept. Its first step loads the weights, so the time of a step is the others'."""
        marks: list[float] = []

        def mark(*_: int) -> None:
            marks.append(time.perf_counter())

        told = Conditioning(prompt=A, guidance=FULL)
        options = RunOptions(keep=Keep("all"), on_step=mark)
        self.prior, seconds = _timed(
            lambda: list(self.engine.record(self.identity, told, self.schedule, options=options))
        )
        tensors = self.prior[0].tensors()
        return {
            "steps": len(self.prior),
            "with_loading_s": round(seconds, 2),
            "step_s": round((marks[-1] - marks[0]) / (len(marks) - 1), 4),
            "snapshot_mib": round(sum(t.numel() * t.element_size() for t in tensors.values()) / 2**20, 2),
            "peak_gib": _peak(),
        }

    def exact(self) -> dict[str, Any]:
        """The law: the same prompt from a snapshot ends in the same bits, after any step that is tried."""
        told, last = Conditioning(prompt=A, guidance=FULL), self.prior[-1].latents
        tried = sorted({len(self.prior) - 2, len(self.prior) * 4 // 5 - 1})
        same = {}
        for step in tried:
            made = self.engine.resume(self.prior[step], self.identity, told, self.schedule)
            same[str(step)] = bool(torch.equal(made.latents.latents, last))
        return {"same_bits_from_step": same, "peak_gib": _peak()}

    def variant(self, guidance: float, *, line: bool) -> dict[str, Any]:
        """Three steps told something else, from the line or from a snapshot."""
        told = Conditioning(prompt=B, guidance=guidance)
        step = next(i for i in range(len(self.prior)) if (self.schedule.sigma_after(i) or 0) <= 0.84)
        how = ResumeOptions(tail=TAIL, line=step if line else None)
        origin = self.prior[-1 if line else step]
        self.engine.resume(origin, self.identity, told, self.schedule, how=ResumeOptions(tail=1, line=how.line))
        _forget()
        made, seconds = _timed(lambda: self.engine.resume(origin, self.identity, told, self.schedule, how=how))
        return {
            "sigma": round(made.sigma, 3), "guidance": guidance, "steps": made.steps_run, "seconds": round(seconds, 3),
            "step_s": round(seconds / made.steps_run, 4), "peak_gib": _peak(),
        }  # fmt: skip

    def decoded(self) -> dict[str, Any]:
        """Latents to frames."""
        count, seconds = _timed(lambda: sum(1 for _ in self.engine.decode(self.prior[-1])))
        return {"frames": count, "seconds": round(seconds, 2), "peak_gib": _peak()}

    def written(self) -> dict[str, Any]:
        """Latents to an mp4. Noise compresses badly, so the file is as large as it can be."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "made.mp4"
            _, seconds = _timed(lambda: write_video(self.engine.decode(self.prior[-1]), path))
            return {"seconds": round(seconds, 2), "mib": round(path.stat().st_size / 2**20, 2)}

    def frugal(self, **more: Any) -> dict[str, Any]:
        """Three steps with less memory. Other weights are other results, so they are not made from this prior."""
        for name in ("transformer", "text_encoder"):
            self.engine.free(name)
        engine, told = self.made(**more), Conditioning(prompt=B, guidance=FULL)
        engine.scratch(self.identity, told, Schedule(num_inference_steps=1))
        _forget()
        _, seconds = _timed(lambda: engine.scratch(self.identity, told, Schedule(num_inference_steps=TAIL)))
        return {"steps": TAIL, "seconds": round(seconds, 3), "step_s": round(seconds / TAIL, 4), "peak_gib": _peak()}


def forwards(size: str, shape: dict[str, int], cast: str | None = None) -> dict[str, Any]:
    """The transformer alone, one pass at a time: for sizes whose folder would take longer to write than to measure."""
    model = transformer(size, DEVICE, DTYPE)
    if cast:
        model.enable_layerwise_casting(storage_dtype=getattr(torch, cast), compute_dtype=DTYPE)
    _forget()
    latents = (1, 16, (shape["frames"] - 1) // 4 + 1, shape["height"] // 8, shape["width"] // 8)
    x, words = (
        torch.randn(latents, device=DEVICE, dtype=DTYPE),
        torch.randn(1, 512, SIZES[size]["text_dim"], device=DEVICE, dtype=DTYPE),
    )
    at = torch.tensor([900.0], device=DEVICE)
    with torch.no_grad():
        model(x, at, words, return_dict=False)
        _, seconds = _timed(lambda: [model(x, at, words, return_dict=False) for _ in range(2)])
    done = step_flops(size, **shape) / (seconds / 2) / 1e12
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 2**30
    return {
        "pass_s": round(seconds / 2, 4),
        "tflops": round(done, 1),
        "weights_gib": round(weights, 2),
        "peak_gib": _peak(),
    }


def spoken() -> dict[str, Any]:
    """Two prompts of full length through the text encoder of all Wan models (with a small one where there is no card)."""
    sizes = XXL if DEVICE == "cuda" else SMALL_TEXT | {"d_model": 32}
    encoder = text_encoder(DEVICE, DTYPE, **sizes)
    ids = torch.randint(5, 300, (1, 512), device=DEVICE)
    with torch.no_grad():
        encoder(ids)
        _, seconds = _timed(lambda: [encoder(ids) for _ in range(2)])
    return {"two_prompts_s": round(seconds, 4), "peak_gib": _peak()}


def ceiling() -> dict[str, Any]:
    """What this device reaches at its best: one large matrix product, one large copy."""
    side = 8192 if DEVICE == "cuda" else 1024
    a, b = (torch.randn(side, side, device=DEVICE, dtype=DTYPE) for _ in range(2))
    (a @ b).clone()
    _, product = _timed(lambda: [a @ b for _ in range(10)])
    _, copy = _timed(lambda: [a.clone() for _ in range(10)])
    moved = 2 * a.numel() * a.element_size() * 10
    return {"tflops": round(20 * side**3 / product / 1e12, 1), "tb_per_s": round(moved / copy / 1e12, 2)}


def measure(sheet: Sheet, sizes: list[str], shape: dict[str, int], steps: int, scratch: Path) -> None:
    """Everything of the first size, through the engine; of the others one pass through the transformer."""
    sheet.part("ceiling", ceiling)
    _through_the_engine(sheet, sizes[0], shape, steps, scratch)
    sheet.part("text, UMT5-XXL" if DEVICE == "cuda" else "text, small", spoken)
    for size in sizes[1:]:
        sheet.part(f"{size}: one pass", partial(forwards, size, shape))
        sheet.part(f"{size}: one pass, fp8 storage", partial(forwards, size, shape, cast="float8_e4m3fn"))


def _through_the_engine(sheet: Sheet, size: str, shape: dict[str, int], steps: int, scratch: Path) -> None:
    folder, seconds = _timed(lambda: save_pipeline(scratch / "model", size, DEVICE, DTYPE))
    sheet.facts["built_s"] = round(seconds, 1)
    run = Run(folder, shape, steps)
    sheet.part(f"{size}: prior", run.recorded)
    sheet.part(f"{size}: exact resume", run.exact)
    ways = {
        "resume": (FULL, False),
        "line": (FULL, True),
        "line, less guidance": (LESS, True),
        "line, no guidance": (1.0, True),
    }
    for name, (guidance, line) in ways.items():
        sheet.part(f"{size}: variant by {name}", partial(run.variant, guidance, line=line))
    sheet.part(f"{size}: decode", run.decoded)
    sheet.part(f"{size}: decode to mp4", run.written)
    sheet.part(f"{size}: three steps, fp8 storage", partial(run.frugal, quantization="float8_e4m3fn"))
    if DEVICE == "cuda":
        sheet.part(f"{size}: three steps, offloaded", partial(run.frugal, offload="group"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["1.3B", "14B"])
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--steps", type=int, default=LONG)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "gpu")
    parser.add_argument("--scratch", type=Path, help="where the random weights lie meanwhile; memory is quickest")
    chosen = parser.parse_args()
    shape = {"height": chosen.height, "width": chosen.width, "frames": chosen.frames}
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu"
    facts = {"device": name, "torch": torch.__version__, "dtype": str(DTYPE), **shape}
    sheet = Sheet(chosen.out / f"wan-{name.lower().replace(' ', '-')}.json", facts)
    with tempfile.TemporaryDirectory(dir=chosen.scratch) as scratch:
        measure(sheet, chosen.sizes, shape, chosen.steps, Path(scratch))
    failed = [name for name, told in sheet.facts.items() if isinstance(told, dict) and "failed" in told]
    sys.exit(f"not measured: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
