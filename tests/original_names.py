"""Tiny models in the layouts that the world's files have, made from the diffusers ones by a table of their own."""

import json
import re
import shutil
import zlib
from pathlib import Path
from types import SimpleNamespace

import tiny_models
import torch
from safetensors.torch import load_file, save_file

# What the makers' own config calls each kind of tiny model.
TYPES = {
    "wan-t2v": "t2v",
    "wan-i2v": "i2v",
    "wan-flf2v": "flf2v",
    "wan-vace": "vace",
    "wan-t2v-two-experts": "t2v",
    "wan-i2v-two-experts": "i2v",
    "wan-ti2v": "ti2v",
}
EXPERTS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
# Only the blocks of VACE have names like these two behind a number.
TRANSFORMER = (
    (".proj_in.", ".before_proj."),
    (".proj_out.", ".after_proj."),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
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


def residual_vae_name(name):
    """Wan 2.2's VAE counts within each block as well, its change of size last."""
    name = re.sub(r"coder\.(down|up)_blocks\.(\d)\.resnets\.", r"coder.\1samples.\2.\1samples.", name)
    for way, last in (("down", 2), ("up", 3)):
        name = re.sub(rf"{way}_blocks\.(\d)\.{way}sampler\.", rf"{way}samples.\1.{way}samples.{last}.", name)
    return vae_name(re.sub(r"(samples\.\d\.)(norm|conv)", r"\1resnets.\2", name)).replace("resnets.", "")


def picture_weights(model):
    """The picture half of open-clip, beside a little of its text half, which nobody reads."""
    weights, found = component(model, "image_encoder", str), {}
    for name, tensor in weights.items():
        name = name.removeprefix("vision_model.")
        layer = re.match(r"encoder\.layers\.(\d+)\.(.*)", name)
        if layer is None:
            theirs = {
                "embeddings.class_embedding": "visual.cls_embedding",
                "embeddings.patch_embedding.weight": "visual.patch_embedding.weight",
                "embeddings.position_embedding.weight": "visual.pos_embedding",
            }.get(name) or name.replace("pre_layrnorm", "visual.pre_norm").replace("post_layernorm", "visual.post_norm")
            spread = {"visual.cls_embedding": (1, 1, -1), "visual.pos_embedding": (1, *tensor.shape)}
            found[theirs] = tensor.reshape(spread.get(theirs, tensor.shape))
            continue
        at, rest = f"visual.transformer.{layer[1]}.", layer[2]
        if rest.startswith("self_attn.q_proj."):
            kind = rest.removeprefix("self_attn.q_proj.")
            three = [weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            found[f"{at}attn.to_qkv.{kind}"] = torch.cat(three)
        elif not rest.startswith(("self_attn.k_proj.", "self_attn.v_proj.")):
            for ours, other in (
                ("self_attn.out_proj", "attn.proj"), ("layer_norm", "norm"), ("mlp.fc1", "mlp.0"), ("mlp.fc2", "mlp.2"),
            ):  # fmt: skip
                rest = rest.replace(ours, other)
            found[at + rest] = tensor
    return found | {
        "visual.head": torch.zeros(16, 16),
        "log_scale": torch.zeros(()),
        "textual.token_embedding.weight": torch.zeros(64, 16),
    }


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


def as_wan_builds(kind, folder):
    """A tiny diffusers folder with parts of the shapes that Wan has them in, and all their weights drawn at random.

    A norm that starts as ones would not tell which norm it is.
    """
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
    from transformers import CLIPVisionConfig, CLIPVisionModel

    from demo.model.sample import FOLDERS

    tiny_models.build(kind, folder)
    torch.manual_seed(zlib.crc32(kind.encode()))
    new = {"vae": AutoencoderKLWan(base_dim=4, z_dim=16)}
    if kind == "wan-ti2v":
        new["vae"] = AutoencoderKLWan(
            base_dim=4, decoder_base_dim=8, z_dim=48, is_residual=True, patch_size=2, in_channels=12, out_channels=12,
            scale_factor_spatial=16, latents_mean=MEAN_22, latents_std=STD_22,
        )  # fmt: skip
        new["transformer"] = tiny_models._wan_transformer(in_channels=48, out_channels=48)
        tiny_models._spread(SimpleNamespace(transformer=new["transformer"]))
    if (folder / "image_encoder").exists():
        new["image_encoder"] = CLIPVisionModel(CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=16, image_size=32,
            patch_size=16, projection_dim=1024, hidden_act="gelu",
        ))  # fmt: skip
    for name, model in new.items():
        shutil.rmtree(folder / name)
        model.save_pretrained(folder / name)
    for file in folder.rglob("*.safetensors"):
        drawn = {name: tensor + 0.02 * torch.randn_like(tensor) for name, tensor in load_file(file).items()}
        save_file(drawn, file, metadata={"format": "pt"})
    shift = {"wan-flf2v": 16.0, "wan-ti2v": 5.0}.get(kind, 3.0)
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift
    ).save_pretrained(folder / "scheduler")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(FOLDERS["t2v"] / "tokenizer", folder / "tokenizer")
    index = json.loads((folder / "model_index.json").read_text())
    said = json.loads((folder / "tokenizer" / "tokenizer_config.json").read_text())
    index["tokenizer"] = ["transformers", said["tokenizer_class"]]
    index["scheduler"] = ["diffusers", "UniPCMultistepScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def own_config(config, kind):
    """The config.json that lies beside the makers' transformer."""
    vace = {"vace_layers": config["vace_layers"], "vace_in_dim": config["vace_in_channels"]} if kind == "vace" else {}
    return {
        "_class_name": "VaceWanModel" if kind == "vace" else "WanModel",
        "_diffusers_version": "0.33.0",
        "model_type": kind,
        "text_len": 512,
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        **{theirs: config[ours] for theirs, ours in (
            ("num_heads", "num_attention_heads"), ("num_layers", "num_layers"), ("in_dim", "in_channels"),
            ("out_dim", "out_channels"), ("ffn_dim", "ffn_dim"), ("freq_dim", "freq_dim"), ("eps", "eps"),
        )},
        **vace,
    }  # fmt: skip


def save_original(model, folder, kind="wan-t2v"):
    """The folder that Wan's makers would publish of a tiny model in diffusers layout."""
    model, folder = Path(model), Path(folder)
    folder.mkdir()
    experts = [name for name in EXPERTS if (model / name).exists()]
    for name in experts:
        place = folder if len(experts) == 1 else folder / EXPERTS[name]
        place.mkdir(exist_ok=True)
        config = json.loads((model / name / "config.json").read_text())
        (place / "config.json").write_text(json.dumps(own_config(config, TYPES[kind])))
        weights = component(model, name, transformer_name)
        if len(experts) == 1:
            save_file(weights, place / "diffusion_pytorch_model.safetensors")
        else:
            save_shards(weights, place, 2)
    save_file(component(model, "text_encoder", text_name), folder / "models_t5_umt5-xxl-enc-bf16.safetensors")
    if kind == "wan-ti2v":
        save_file(component(model, "vae", residual_vae_name), folder / "Wan2.2_VAE.safetensors")
    else:
        save_file(component(model, "vae", lambda name: up_name(vae_name(name))), folder / "Wan2.1_VAE.safetensors")
    if (model / "image_encoder").exists():
        save_file(picture_weights(model), folder / f"{CLIP}.safetensors")
    shutil.copytree(model / "tokenizer", folder / "google" / "umt5-xxl")
    return folder


# Of the 48 channels of Wan 2.2's VAE, as Wan's own code has them (wan/modules/vae2_2.py).
MEAN_22 = [
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891,
    0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
    -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723,
    -0.2839, -0.2083, -0.052, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
]  # fmt: skip
STD_22 = [
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901,
    0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
    0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944,
    0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
]  # fmt: skip
