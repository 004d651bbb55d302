"""Wan's VAE under its makers' names: how it is built, and what diffusers calls the weights of Wan 2.2's."""

from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.parts import Shapes, renamed

# Channels in and latent ones.
_CHANNELS = {"2.1": (3, 16), "2.2": (12, 48)}
# The widest level of both is four times as wide as the narrowest.
_WIDEST = 4
_RESNET = (
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)
_ENDS = (
    (r"^conv1\.", "quant_conv."),
    (r"^conv2\.", "post_quant_conv."),
    (r"^(en|de)coder\.conv1\.", r"\1coder.conv_in."),
    (r"^(en|de)coder\.head\.0\.", r"\1coder.norm_out."),
    (r"^(en|de)coder\.head\.2\.", r"\1coder.conv_out."),
    (r"^(en|de)coder\.middle\.0\.", r"\1coder.mid_block.resnets.0."),
    (r"^(en|de)coder\.middle\.1\.", r"\1coder.mid_block.attentions.0."),
    (r"^(en|de)coder\.middle\.2\.", r"\1coder.mid_block.resnets.1."),
    # Whatever in a block is no resnet changes the size.
    (
        r"^(en|de)coder\.(down|up)samples\.(\d+)\.\2samples\.(\d+)\.(?=residual|shortcut)",
        r"\1coder.\2_blocks.\3.resnets.\4.",
    ),
    (r"^(en|de)coder\.(down|up)samples\.(\d+)\.\2samples\.\d+\.", r"\1coder.\2_blocks.\3.\2sampler."),
)


def residual_vae_name(name: str) -> str:
    """A weight of Wan 2.2's VAE as diffusers calls it, which knows the names of Wan 2.1's alone."""
    return renamed(renamed(name, _ENDS), _RESNET)


def vae_config(shapes: Shapes, version: str) -> dict[str, Any]:
    """What of the VAE's configuration its weights tell; the rest is as in all VAEs of that version of Wan."""
    first = shapes.get("encoder.conv1.weight") or shapes.get("encoder.conv_in.weight")
    last = shapes.get("decoder.conv1.weight") or shapes.get("decoder.conv_in.weight")
    if first is None or last is None:
        raise ModelSourceError(
            f"the VAE's file holds no VAE of Wan {version}, but names like {min(shapes, default='none')!r}"
        )
    pixels, latents = _CHANNELS[version]
    if (first[1], last[1]) != (pixels, latents):
        raise ModelSourceError(
            f"the VAE has {first[1]} channels in and {last[1]} latent ones, and Wan {version}'s has {pixels} and {latents}; "
            "of other models take the folder in diffusers layout"
        )
    told = {"_class_name": "AutoencoderKLWan", "base_dim": first[0], "z_dim": latents}
    return told if version == "2.1" else told | {"decoder_base_dim": last[0] // _WIDEST} | _RESIDUAL


# Of each latent channel of Wan 2.2: what it is on average, and how far it spreads.
_MEAN = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
]  # fmt: skip
_STD = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]  # fmt: skip
_RESIDUAL = {
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_temporal": 4,
    "scale_factor_spatial": 16,
    "latents_mean": _MEAN,
    "latents_std": _STD,
}
