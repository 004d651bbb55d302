"""Train the demo model: `python -m demo.train` does every stage, and goes on where it was stopped."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

import torch

STAGES: Final = ("data", "decoder", "denoiser", "export", "evaluate", "restore")
DECODER_STEPS: Final = 2000
DENOISER_PHASES: Final = (1600, 4400)


def main() -> None:
    """Parse the command line and run the stages asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=STAGES, help="only this stage; all of them when left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "training")
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--workers", type=int, default=1 if torch.cuda.is_available() else min(8, os.cpu_count() or 1))
    parser.add_argument("--decoder-steps", type=int, default=DECODER_STEPS)
    parser.add_argument("--denoiser-phases", type=int, nargs="+", default=DENOISER_PHASES)
    options = parser.parse_args()
    if options.stage == "restore" and len(options.denoiser_phases) < 2:
        parser.error(
            "the stored weights are the end of a phase: name it and the next, as in --denoiser-phases 4400 8000"
        )
    if options.stage is None:
        run_all(sys.argv[1:])
        return
    run_stage(options)


def run_all(arguments: list[str]) -> None:
    """Every stage in its own process; decoder and denoiser side by side, since neither needs the other."""
    for together in (("data",), ("decoder", "denoiser"), ("export",), ("evaluate",)):
        began = time.time()
        running = [
            subprocess.Popen([sys.executable, "-m", "demo.train", *arguments, "--stage", stage])  # noqa: S603
            for stage in together
        ]
        codes = [process.wait() for process in running]
        if any(codes):
            sys.exit(f"stage {' or '.join(together)} failed; mend it and start again: what is done is kept")
        print(f"{' and '.join(together)}: {time.time() - began:.0f} s", flush=True)


def run_stage(options: argparse.Namespace) -> None:
    """One stage, in this process."""
    from demo.model import codec

    folder: Path = options.folder
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.stage == "data":
        if not (folder / "encoder.safetensors").exists():
            codec.fit_encoder(folder, seed=options.seed)
        codec.make_shards(folder, seed=options.seed, workers=os.cpu_count() or 1)
    elif options.stage == "decoder":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))
        codec.train_decoder(folder, seed=options.seed, steps=options.decoder_steps, device=device)
    elif options.stage == "denoiser":
        from demo.model import denoiser, evaluate

        denoiser.train_denoiser(
            folder,
            seed=options.seed,
            phases=tuple(options.denoiser_phases),
            # On the device too: on one core a look takes longer there than the steps between two of them.
            look=partial(evaluate.look, device=device),
            device=device,
            workers=options.workers,
        )
    elif options.stage == "restore":
        from demo.model.export import restore

        # The shipped weights are the end of a phase; what is left to train is the phase after it.
        restore(folder, options.weights, step=options.denoiser_phases[-2])
    elif options.stage == "export":
        from demo.model.export import export

        export(folder, options.weights)
    elif options.stage == "evaluate":
        from demo.drawing.training import plot_training
        from demo.model.evaluate import quick

        print(json.dumps(quick(folder, options.weights), indent=1))
        plot_training(folder, folder / "training.png")


if __name__ == "__main__":
    main()
