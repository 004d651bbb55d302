"""What a Wan transformer's weights say of its build, under the makers' names and under those of diffusers."""

from collections.abc import Mapping
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.parts import Part, Shapes

# As checkpoints for other programs have them.
PREFIXES = ("model.diffusion_model.", "diffusion_model.")
# Where the first and the last picture are told apart, as Wan and as diffusers call it.
TWO_PICTURES = ("img_emb.emb_pos", "image_embedder.pos_embed")


def bare(name: str) -> str:
    """A weight's name without what other programs put before it."""
    return next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)


def build_of(shapes: Shapes) -> dict[str, int | bool] | None:
    """Layers, width and so on; None where the weights are not those of a Wan transformer."""
    plain = {bare(name): shape for name, shape in shapes.items()}
    patch = plain.get("patch_embedding.weight")
    text = plain.get("text_embedding.0.weight") or plain.get("condition_embedder.text_embedder.linear_1.weight")
    middle = plain.get("blocks.0.ffn.0.weight") or plain.get("blocks.0.ffn.net.0.proj.weight")
    if patch is None or text is None or middle is None:
        return None
    numbers = [int(name.split(".")[1]) for name in plain if name.startswith("blocks.")]
    return {
        "layers": max(numbers) + 1,
        "width": patch[0],
        "input channels": patch[1],
        "inner width": middle[0],
        "text width": text[1],
        "picture embedding": any("img_emb." in name or "image_embedder." in name for name in plain),
        "two-picture embedding": any(name.endswith(TWO_PICTURES) for name in plain),
        "control blocks": len({name.split(".")[1] for name in plain if name.startswith("vace_blocks.")}),
    }


def build_in(config: Mapping[str, Any]) -> dict[str, int | bool]:
    """The same of a configuration in diffusers' words."""
    return {
        "layers": config.get("num_layers", 40),
        "width": config.get("num_attention_heads", 40) * config.get("attention_head_dim", 128),
        "input channels": config.get("in_channels", 16),
        "inner width": config.get("ffn_dim", 13824),
        "text width": config.get("text_dim", 4096),
        "picture embedding": config.get("image_dim") is not None,
        "two-picture embedding": config.get("pos_embed_seq_len") is not None,
        "control blocks": len(config.get("vace_layers", ())),
    }


def check_build(part: Part, config: Mapping[str, Any]) -> None:
    """Refuse weights that are not of the build that the model's configuration asks for, with both told."""
    found, wanted = build_of(part.shapes()), build_in(config)
    if found is None:
        held = min(part.shapes(), default="nothing")
        raise ModelSourceError(
            f"model part {part.name!r}: the files hold no Wan transformer, but names like {held!r}; "
            f"the model wants {told(wanted)}"
        )
    if found != wanted:
        raise ModelSourceError(
            f"model part {part.name!r}: the files hold a Wan of {told(found)}, and the model wants one of {told(wanted)}; "
            "give the weights of this model, or the model of these weights"
        )


def told(build: Mapping[str, int | bool]) -> str:
    """`30 layers, width 1536, 16 input channels, ...`."""
    counts = [
        f"{value} {name}" if name in {"layers", "input channels", "control blocks"} else f"{name} {value}"
        for name, value in build.items()
        if value and not isinstance(value, bool)
    ]
    return ", ".join([*counts, *(f"with a {name}" for name, value in build.items() if value is True)])
