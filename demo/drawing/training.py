"""Draw what a training logged: loss, reconstruction, and what the judge saw on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def plot_training(folder: Path, path: Path) -> None:
    """One picture from the logs in `folder`."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, (loss, quality, judged) = plt.subplots(1, 3, figsize=(13, 3.6), layout="constrained")
    rows = _read(folder / "denoiser.jsonl")
    for key, label in (("t2v", "text to video"), ("i2v", "image to video"), ("t2v_high", "text, sigma > 0.9")):
        loss.plot([r["step"] for r in rows], [r[key] for r in rows], label=label, linewidth=1)
    loss.set(title="flow-matching loss", xlabel="step", yscale="log")
    loss.legend(frameon=False)
    rows = _read(folder / "decoder.jsonl")
    quality.plot([r["step"] for r in rows], [r["psnr"] for r in rows], color="tab:green", linewidth=1)
    quality.axhline(28, color="grey", linewidth=0.8, linestyle=":")
    quality.set(title="reconstruction, training batches (dB)", xlabel="step")
    rows = _read(folder / "looks.jsonl")
    for kind, colour in (("t2v", "tab:blue"), ("i2v", "tab:orange")):
        for key, line in (("identity", "--"), ("aspect", "-")):
            label = f"{kind} {key}"
            judged.plot([r["step"] for r in rows], [r[kind][key] for r in rows], line, color=colour, label=label)
    judged.set(title="right, as the judge sees it (22 clips)", xlabel="step", ylim=(0, 1.03))
    judged.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _read(path: Path) -> list[dict[str, Any]]:
    """The log's rows by step; where a stop and a fresh start logged a step twice, the later one holds."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for _, row in sorted({row["step"]: row for row in rows}.items())]


def contact_sheet(clips: np.ndarray, path: Path, *, scale: int = 2, gap: int = 3) -> None:
    """A clip to a row, every second frame: (N, T, H, W, 3), float in 0..1."""
    from PIL import Image

    shown = clips[:, ::2].clip(0, 1)
    num, frames, height, width = shown.shape[:4]
    sheet = np.ones((num * (height + gap) - gap, frames * (width + gap) - gap, 3), np.float32)
    for row in range(num):
        for column in range(frames):
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = shown[row, column]
    picture = Image.fromarray((sheet * 255 + 0.5).astype(np.uint8))
    picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC).save(path)


def stock_clips(folder: Path, prompts: Sequence[str], *, seed: int, image: Path | None = None) -> np.ndarray:
    """Clips by the stock pipeline with default arguments except size, frames, steps and guidance."""
    import torch
    from diffusers import DiffusionPipeline
    from PIL import Image

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    given = {"image": Image.open(image)} if image else {}
    made = [
        pipeline(
            prompt=prompt,
            height=64,
            width=64,
            num_frames=9,
            num_inference_steps=10,
            guidance_scale=4.0,
            generator=torch.Generator().manual_seed(seed),
            **given,
        ).frames[0]
        for prompt in prompts
    ]
    return np.stack(made)
