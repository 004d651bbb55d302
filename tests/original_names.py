"""Tiny models in the layouts that the world's files have, made from the diffusers ones by a table of their own."""

import json
import re
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

TRANSFORMER = (
    ("condition_embedder.image_embedder.norm1.", "img_emb.proj.0."),
    ("condition_embedder.image_embedder.ff.net.0.proj.", "img_emb.proj.1."),
    ("condition_embedder.image_embedder.ff.net.2.", "img_emb.proj.3."),
    ("condition_embedder.image_embedder.norm2.", "img_emb.proj.4."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".norm_added_k.", ".norm_k_img."),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("attn1.", "self_attn."),
    ("attn2.", "cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
    (".norm2.", ".norm3."),
    ("proj_out.", "head.head."),
)


def transformer_name(name):
    if name == "scale_shift_table":
        return "head.modulation"
    name = name.replace(".scale_shift_table", ".modulation")
    for ours, theirs in TRANSFORMER:
        name = name.replace(ours, theirs)
    return name


def text_name(name):
    block = re.match(r"encoder\.block\.(\d+)\.layer\.(\d)\.(.*)", name)
    if block is None:
        return {"shared.weight": "token_embedding.weight", "encoder.final_layer_norm.weight": "norm.weight"}[name]
    number, layer, rest = block.groups()
    rest = rest.replace("SelfAttention.relative_attention_bias.", "pos_embedding.embedding.").replace(
        "SelfAttention.", "attn."
    )
    rest = rest.replace("layer_norm.", "norm1." if layer == "0" else "norm2.")
    for ours, theirs in (("wi_0.", "ffn.gate.0."), ("wi_1.", "ffn.fc1."), ("wo.", "ffn.fc2.")):
        rest = rest.replace(f"DenseReluDense.{ours}", theirs)
    return f"blocks.{number}.{rest}"


def vae_name(name):
    """Wan's VAE counts all blocks of a half in one row."""
    name = name.replace("conv_shortcut.", "shortcut.")
    name = re.sub(r"mid_block\.resnets\.([01])\.", lambda m: f"middle.{int(m[1]) * 2}.", name)
    name = name.replace("mid_block.attentions.0.", "middle.1.").replace(".conv_in.", ".conv1.")
    for ours, theirs in (
        ("norm1.", "residual.0."),
        ("conv1.", "residual.2."),
        ("norm2.", "residual.3."),
        ("conv2.", "residual.6."),
    ):
        name = re.sub(rf"((?:middle|down_blocks|up_blocks|resnets)[.\d]*){re.escape(ours)}", rf"\1{theirs}", name)
    name = name.replace(".norm_out.", ".head.0.").replace(".conv_out.", ".head.2.")
    name = re.sub(r"^post_quant_conv\.", "conv2.", name)
    name = re.sub(r"^quant_conv\.", "conv1.", name)
    return name.replace("encoder.down_blocks.", "encoder.downsamples.")


def up_name(name):
    """Up blocks of three resnets and a change of size, each four in one row."""
    found = re.match(r"decoder\.up_blocks\.(\d)\.(resnets\.(\d)|upsamplers\.0)\.(.*)", name)
    if found is None:
        return name
    block, _, resnet, rest = found.groups()
    return f"decoder.upsamples.{int(block) * 4 + (3 if resnet is None else int(resnet))}.{rest}"


def component(model, part, rename):
    """The renamed weights of a component of a diffusers folder."""
    weights = {}
    for file in sorted((Path(model) / part).glob("*.safetensors")):
        weights |= {rename(name): tensor for name, tensor in load_file(file).items()}
    return weights


def save_shards(weights, folder, count, stem="diffusion_pytorch_model"):
    names = sorted(weights)
    paths = [folder / f"{stem}-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        save_file({name: weights[name] for name in names[number::count]}, path)
    return paths


def save_original(model, folder):
    """The folder that Wan's makers would publish of a tiny text-to-video model."""
    model, folder = Path(model), Path(folder)
    folder.mkdir()
    config = json.loads((model / "transformer" / "config.json").read_text())
    own = {
        "_class_name": "WanModel",
        "model_type": "t2v",
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "text_dim": config["text_dim"],
        **{theirs: config[ours] for theirs, ours in (
            ("num_heads", "num_attention_heads"), ("num_layers", "num_layers"), ("in_dim", "in_channels"),
            ("out_dim", "out_channels"), ("ffn_dim", "ffn_dim"), ("freq_dim", "freq_dim"), ("eps", "eps"),
        )},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(own))
    save_file(component(model, "transformer", transformer_name), folder / "diffusion_pytorch_model.safetensors")
    save_file(component(model, "text_encoder", text_name), folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    save_file(component(model, "vae", lambda name: up_name(vae_name(name))), folder / "Wan2.1_VAE.safetensors")
    shutil.copytree(model / "tokenizer", folder / "google" / "umt5-xxl")
    return folder
