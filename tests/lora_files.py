"""LoRA weights for the tiny Wan transformers, as every usual maker writes them."""

import torch

RANK, WIDTH, INNER = 2, 24, 32
LINEARS = (
    [("self_attn", part) for part in "qkvo"] + [("cross_attn", part) for part in "qkvo"] + [("ffn", 0), ("ffn", 2)]
)


def weights(seed):
    """(block, part, layer) to (down, up), for every linear layer of the tiny transformer."""
    random = torch.Generator().manual_seed(seed)
    made = {}
    for block in range(4):
        for part, layer in LINEARS:
            wide, narrow = (INNER if layer == 0 else WIDTH), (INNER if layer == 2 else WIDTH)
            down, up = torch.randn(RANK, narrow, generator=random), torch.randn(wide, RANK, generator=random)
            made[block, part, layer] = down / 4, up / 4
    return made


def named(maker, made):
    """The same weights as `maker` writes them."""
    attention = {"self_attn": "attn1", "cross_attn": "attn2"}
    theirs = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", 0: "net.0.proj", 2: "net.2"}
    file = {}
    for (block, part, layer), (down, up) in made.items():
        original = f"blocks.{block}.{part}.{layer}"
        if maker == "diffusers":
            name = f"transformer.blocks.{block}.{attention.get(part, part)}.{theirs[layer]}"
            file |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        elif maker == "lightx2v":
            name = f"diffusion_model.{original}"
            file |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        elif maker == "diffsynth":
            file |= {f"{original}.lora_A.default.weight": down, f"{original}.lora_B.default.weight": up}
        else:
            name = f"lora_unet_blocks_{block}_{part}_{layer}"
            file |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            file[f"{name}.alpha"] = torch.tensor(float(RANK))
    return file
