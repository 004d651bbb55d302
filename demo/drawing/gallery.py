"""What stock diffusers makes of the shipped folders: `python -m demo.drawing.gallery` draws docs/images/demo_t2v.png and demo_i2v.png.

No code of Headstart is in the loop. Each row is a clip, five of its nine frames; the last two identities were held out of
training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from PIL import Image

from demo.model.sample import FOLDERS
from demo.world.captions import all_captions
from demo.world.clips import Clip, Identity, render

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
ROWS: Final = (
    ("red", "star", "left"),
    ("blue", "circle", "grows"),
    ("yellow", "heart", "up"),
    ("teal", "square", "talks"),
    ("purple", "triangle", "darkens"),
    ("green", "heart", "right"),
    ("teal", "star", "blinks"),
)
FRAMES: Final = (0, 2, 4, 6, 8)
ZOOM: Final = 2


def clips(kind: str) -> list[list[Image.Image]]:
    """The frames of every row, by the stock pipeline."""
    from diffusers import WanImageToVideoPipeline, WanPipeline

    classes = {"t2v": WanPipeline, "i2v": WanImageToVideoPipeline}
    pipeline = classes[kind].from_pretrained(FOLDERS[kind], dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    made = []
    for number, (colour, shape, aspect) in enumerate(ROWS):
        identity = Identity(shape=shape, colour=colour)
        prompt = all_captions(identity, aspect)[0]
        first = (render(Clip(identity=identity, aspect="still", life=number))[0] * 255 + 0.5).astype("uint8")
        given = {"image": Image.fromarray(first)} if kind == "i2v" else {}
        made.append(
            pipeline(
                prompt=prompt,
                height=64,
                width=64,
                num_frames=9,
                num_inference_steps=10,
                guidance_scale=4.0,
                generator=torch.Generator().manual_seed(number),
                output_type="pil",
                **given,
            ).frames[0]
        )
    return made


def main() -> None:
    """Draw both sheets."""
    side = 64 * ZOOM
    for kind in FOLDERS:
        rows = clips(kind)
        sheet = Image.new("RGB", (len(FRAMES) * (side + 4) - 4, len(rows) * (side + 4) - 4), "white")
        for y, frames in enumerate(rows):
            for x, number in enumerate(FRAMES):
                frame = frames[number].resize((side, side), Image.Resampling.BICUBIC)
                sheet.paste(frame, (x * (side + 4), y * (side + 4)))
        sheet.save(IMAGES / f"demo_{kind}.png")


if __name__ == "__main__":
    main()
