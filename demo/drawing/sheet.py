"""Make the pictures of the image-to-video sheet: `python -m demo.drawing.sheet` (they are in git; this says where from)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from demo.world.clips import Clip, Identity, render

SHEETS: Final = Path(__file__).parents[1] / "sheets"
LIVES: Final = {
    "red-star": (Identity(shape="star", colour="red"), 107),
    "blue-circle": (Identity(shape="circle", colour="blue"), 103),
    "green-heart": (Identity(shape="heart", colour="green"), 133),
}


def main() -> None:
    """One first frame for each identity of the sheet."""
    from PIL import Image

    for name, (identity, life) in LIVES.items():
        frame = render(Clip(identity=identity, aspect="still", life=life))[0]
        Image.fromarray((frame * 255 + 0.5).astype("uint8")).save(SHEETS / f"{name}.png")


if __name__ == "__main__":
    main()
