"""Twelve pairs, every frame, each way to make the variant below the other: `python -m benchmarks.fidelity.contact_sheet`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from benchmarks.fidelity.contest import STAGES, Contest
from benchmarks.fidelity.contest_settings import LONG, Setting
from demo.model.evaluate import draw_pairs
from demo.model.sample import FOLDERS

PAIRS, ACROSS, GAP, HEAD = 12, 3, 12, 14
OUT = Path(__file__).parents[2] / "docs" / "images"


def _line(steps: int, guidance: float, prior: int = LONG) -> Setting:
    return Setting(how="line", prior=prior, sigma=0.833, guidance=guidance, steps=steps)


ROWS = {
    "full run of 30, guidance 4": Setting(how="full", steps=LONG),
    "full run of 30, guidance 2.5": Setting(how="full", steps=LONG, guidance=2.5),
    "line, 3 steps, guidance 2.5": _line(3, 2.5),
    "the same, prior of 10": _line(3, 2.5, prior=10),
    "line, 3 steps, guidance 4": _line(3, 4.0),
    "difference, 4 steps, guidance 4": Setting(how="difference", prior=LONG, sigma=0.833, steps=4),
    "difference, 3 steps, guidance 4": Setting(how="difference", prior=LONG, sigma=0.833, steps=3),
    "resume, 3 steps, guidance 4": Setting(how="resume", prior=LONG, sigma=0.833, steps=3),
    "scratch, 3 steps, guidance 4": Setting(how="scratch", steps=3),
}


def strip(frames: np.ndarray) -> np.ndarray:
    """The frames of a clip in a row."""
    return (np.concatenate(list(frames.astype(np.float32)), axis=1).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def sheet(kind: str) -> Image.Image:
    """The pairs are the first of those that the page quotes last, so nothing was chosen by them."""
    stage = STAGES["confirm"]
    pairs = draw_pairs(stage.pairs, seed=stage.seed, neutral=True, phrasings=stage.phrasings)[:PAIRS]
    contest = Contest(pairs, FOLDERS[kind])
    with torch.no_grad():
        made = {"prior": contest.prior} | {name: contest.made(setting) for name, setting in ROWS.items()}
    blocks = [[(name, strip(seen.frames[index])) for name, seen in made.items()] for index in range(PAIRS)]
    high, wide = blocks[0][0][1].shape[:2]
    tall = HEAD + len(made) * (high + HEAD)
    page = Image.new("RGB", (ACROSS * (wide + GAP), -(-PAIRS // ACROSS) * (tall + GAP)), "white")
    pen = ImageDraw.Draw(page)
    for index, (pair, block) in enumerate(zip(pairs, blocks, strict=True)):
        left, top = index % ACROSS * (wide + GAP), index // ACROSS * (tall + GAP)
        pen.text((left, top), pair.asked(before=False), fill="black")
        for number, (name, picture) in enumerate(block):
            y = top + HEAD + number * (high + HEAD)
            pen.text((left, y), name, fill=(90, 90, 90))
            page.paste(Image.fromarray(picture), (left, y + HEAD))
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    for kind in FOLDERS:
        sheet(kind).save(out / f"contest_{kind}.jpg", quality=80, optimize=True)


if __name__ == "__main__":
    main()
