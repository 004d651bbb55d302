"""What Wan takes of a device by the books, as `headstart plan` counts it, for its real sizes: `python -m benchmarks.gpu.books`

Nothing is loaded: the real architectures are built without memory, and their weights are counted. Beside it stands what was
measured on a GPU, where it was (benchmarks/results/gpu).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch

from benchmarks.gpu.random_models import SIZES, XXL
from prior_engine.models.account import Size, counted_of, phases, with_exact
from prior_engine.models.families import family_of
from tasks.planning.models.memory import ARRANGEMENTS, MARGIN, most, told

MEASURED = Path(__file__).parents[1] / "results" / "gpu" / "wan-nvidia-h200.json"
CARDS_FILE = Path(__file__).parents[1] / "results" / "gpu" / "cards.json"
CARDS = (8, 16, 24, 80)
BASE = {"attention_head_dim": 128, "in_channels": 16, "out_channels": 16, "freq_dim": 256}
PICTURES = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
# Name: pipeline, and the configurations of its experts.
MODELS = {
    "Wan 2.1 T2V 1.3B": ("WanPipeline", [SIZES["1.3B"]]),
    "Wan 2.1 T2V 14B": ("WanPipeline", [SIZES["14B"]]),
    "Wan 2.1 I2V 14B": ("WanImageToVideoPipeline", [SIZES["14B"] | PICTURES]),
    "Wan 2.2 T2V A14B": ("WanPipeline", [SIZES["14B"]] * 2),
}
VIDEOS = {"480p": Size(height=480, width=832, frames=81), "720p": Size(height=720, width=1280, frames=81)}


@cache
def architecture(name: str) -> tuple[SimpleNamespace, dict[str, object]]:
    """What the account asks a model, and its weights, counted."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    pipeline, configs = MODELS[name]
    with torch.device("meta"):
        built = {
            "vae": AutoencoderKLWan(),
            "text_encoder": UMT5EncoderModel(
                UMT5Config(is_encoder_decoder=False, feed_forward_proj="gated-gelu", **XXL)
            ),
        }
        for expert, config in zip(("transformer", "transformer_2"), configs, strict=False):
            built[expert] = WanTransformer3DModel(**BASE | config)
        if "image_dim" in configs[0]:
            # As OpenCLIP's ViT-H/14, of which Wan takes the picture half.
            vit = CLIPVisionConfig(
                hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16, patch_size=14
            )
            built["image_encoder"] = CLIPVisionModel(vit)
    said = {
        part: dict(model.config) if part != "text_encoder" and part != "image_encoder" else {}
        for part, model in built.items()
    }
    said["vae"]["_class_name"] = "AutoencoderKLWan"
    info = SimpleNamespace(
        dtype="bfloat16", family=family_of(pipeline), quantization=None, text_quantization=None, vae_tiling=False, merge_guidance=False, size_multiple=16, frame_multiple=4,
        components=built, layout=SimpleNamespace(config=said.__getitem__),
    )  # fmt: skip
    # UMT5's word table is there under two names.
    shapes = {
        part: {
            weight: tuple(tensor.shape)
            for weight, tensor in model.state_dict().items()
            if weight != "encoder.embed_tokens.weight"
        }
        for part, model in built.items()
    }
    counted = {part: counted_of(found) for part, found in shapes.items()}
    return info, counted | {"text_encoder": with_exact(counted["text_encoder"], shapes["text_encoder"])}


def taken(name: str, video: str, **arrangement: object) -> tuple:
    """The phases of a model under an arrangement."""
    info, parts = architecture(name)
    info = SimpleNamespace(**vars(info) | {"quantization": None, "vae_tiling": False} | arrangement)
    return phases(info, parts, VIDEOS[video], arrangement.get("offload", "none"))


def cards(name: str, video: str) -> dict[str, str]:
    """For each size of card how much of what saves memory is needed, and `none` where nothing suffices."""
    needed = [most(taken(name, video, **arrangement)) * MARGIN for arrangement in ARRANGEMENTS]
    words = ("as it is", "weights wait", "weights wait, tiles", "weights wait, tiles, 8 bits")
    return {
        str(card): next((word for word, gib in zip(words, needed, strict=True) if gib <= card), "none")
        for card in CARDS
    }


def main() -> None:
    CARDS_FILE.write_text(
        json.dumps({name: {video: cards(name, video) for video in VIDEOS} for name in MODELS}, indent=1) + "\n"
    )
    measured = json.loads(MEASURED.read_text())
    print(
        "| model | video | what saves memory | GiB by the books | card it fits, with a fifth to spare |\n|---|---|---|---|---|"
    )
    for name in MODELS:
        for video in VIDEOS:
            for arrangement in ARRANGEMENTS:
                found = taken(name, video, **arrangement)
                words = ", ".join(
                    "8-bit weights" if k == "quantization" else "tiles" if k == "vae_tiling" else k for k in arrangement
                )
                fits = next((card for card in (8, 16, 24, 48, 80) if most(found) * MARGIN <= card), None)
                print(f"| {name} | {video} | {words or 'nothing'} | {told(found)} | {fits or 'none'} |")
    print(
        f"\nmeasured, 1.3B at 480p: denoising {measured['1.3B: prior']['peak_gib']}, decoding {measured['1.3B: decode']['peak_gib']}, "
        f"denoising offloaded {measured['1.3B: three steps, offloaded']['peak_gib']}; "
        f"14B, one pass: {measured['14B: one pass']['peak_gib']}, in 8 bits {measured['14B: one pass, fp8 storage']['peak_gib']}"
    )


if __name__ == "__main__":
    main()
