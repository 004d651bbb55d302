"""What recording costs: a recorded run beside the plain pipeline's, and the window alone.

    python benchmarks/engine/overhead.py [--steps 8] [--rounds 9] [--width 512] [--layers 8]

Both sides run in one process, turn by turn, so that a busy machine slows both; what counts is their ratio.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from prior_engine import Conditioning, Engine, Identity, Keep, ModelSpec, RunOptions, Schedule
from prior_engine.runs.solvers.solver import build_scheduler
from prior_engine.runs.solvers.window import Window

SIZE = {"height": 128, "width": 128, "frames": 17}
PROMPT = "a red cube on a table"
LENGTH = 64


def build(folder, width, layers):
    """A random Wan that is wide enough to work for a while on each step."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import ByT5Tokenizer, UMT5Config, UMT5EncoderModel

    text = UMT5Config(vocab_size=384, d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=2, is_encoder_decoder=False)
    transformer = WanTransformer3DModel(
        num_attention_heads=width // 64, attention_head_dim=64, in_channels=16, out_channels=16, text_dim=32, freq_dim=64,
        ffn_dim=4 * width, num_layers=layers,
    )  # fmt: skip
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    WanPipeline(
        tokenizer=ByT5Tokenizer(), text_encoder=UMT5EncoderModel(text), vae=vae, transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
    ).save_pretrained(folder)  # fmt: skip
    return folder


def timed(run):
    """Seconds on the wall."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measured(run):
    """Seconds on the wall and of the processor, over all threads: the second does not see what else the machine does."""
    walls, cpus = time.perf_counter(), time.process_time()
    run()
    return {"wall_s": time.perf_counter() - walls, "cpu_s": time.process_time() - cpus}


def window_cost(engine, schedule, steps):
    """Milliseconds that the window adds to one call of the scheduler."""
    latents = torch.randn(1, 16, 5, 16, 16)

    def walk(scheduler):
        scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0)
        for t in scheduler.timesteps:
            scheduler.step(latents, t, latents, return_dict=False)

    bare, proxied = [], []
    for _ in range(200):
        bare.append(timed(lambda: walk(build_scheduler(schedule, engine.info))))
        proxied.append(timed(lambda: walk(Window(build_scheduler(schedule, engine.info)))))
    return 1000 * (statistics.median(proxied) - statistics.median(bare)) / steps


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--width", type=int, default=512)
    options.add_argument("--layers", type=int, default=8)
    options.add_argument("--solver", default="FlowMatchEulerDiscreteScheduler")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = build(Path(scratch) / "model", chosen.width, chosen.layers)
        engine = Engine(ModelSpec(source=str(folder), device="cpu"))
        identity = Identity(prompt=PROMPT, seed=1, **SIZE)
        told = Conditioning(prompt=PROMPT, guidance=1.0, max_sequence_length=LENGTH)
        schedule = Schedule(
            scheduler=chosen.solver, grid="diffusers", num_inference_steps=chosen.steps, sigma_shift=5.0
        )
        embeddings = engine.encode([told])
        written = []

        def recorded(keep):
            for snapshot in engine.record(
                identity, told, schedule, options=RunOptions(keep=Keep("all"), embeddings=embeddings)
            ):
                if keep:
                    path = Path(scratch) / f"{snapshot.step}.safetensors"
                    written.append(timed(lambda s=snapshot, p=path: save_file(s.tensors(), p, metadata=s.metadata())))

        recorded(keep=False)  # loads and warms everything
        pipe = engine._components.pipe
        pipe.scheduler = build_scheduler(schedule, engine.info)
        embeds = embeddings[told.texts].prompt["prompt_embeds"]

        def plain():
            pipe(
                prompt_embeds=embeds, height=SIZE["height"], width=SIZE["width"], num_frames=SIZE["frames"],
                num_inference_steps=chosen.steps, guidance_scale=1.0, output_type="latent",
                generator=torch.Generator().manual_seed(1),
            )  # fmt: skip

        plain()
        sides = {"plain": plain, "recorded": lambda: recorded(keep=False), "written": lambda: recorded(keep=True)}
        rounds = []
        for turn in range(chosen.rounds):
            written.clear()
            order = list(sides) if turn % 2 == 0 else list(reversed(sides))
            rounds.append({name: measured(sides[name]) for name in order} | {"writes_s": sum(written)})

        def ratios(side, clock):
            return [round(row[side][clock] / row["plain"][clock], 4) for row in rounds]

        def best(side):
            """The best run of each side: what is left when the machine does nothing else for once."""
            return round(min(row[side]["cpu_s"] for row in rounds) / min(row["plain"]["cpu_s"] for row in rounds), 4)

        result = {
            "machine": f"{platform.machine()}, {torch.get_num_threads()} thread",
            "torch": torch.__version__,
            "solver": chosen.solver,
            "steps": chosen.steps,
            "ms_per_step_plain": round(1000 * min(row["plain"]["wall_s"] for row in rounds) / chosen.steps, 1),
            "recorded_over_plain": {
                clock: statistics.median(ratios("recorded", clock)) for clock in ("wall_s", "cpu_s")
            },
            "written_over_plain": {clock: statistics.median(ratios("written", clock)) for clock in ("wall_s", "cpu_s")},
            "best_recorded_over_best_plain": best("recorded"),
            "best_written_over_best_plain": best("written"),
            "all_wall_ratios": ratios("recorded", "wall_s"),
            "all_cpu_ratios": ratios("recorded", "cpu_s"),
            "writes_ms_per_run": round(1000 * statistics.median(row["writes_s"] for row in rounds), 2),
            "window_ms_per_step": round(window_cost(engine, schedule, chosen.steps), 4),
        }
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
