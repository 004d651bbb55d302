"""Weights under their makers' names, put into the classes of diffusers and transformers."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.weights.clip import is_never_asked, picture_name
from prior_engine.models.weights.gguf_file import SUFFIX, load_gguf, put_packed
from prior_engine.models.weights.umt5 import text_name
from prior_engine.models.weights.wan_shape import TWO_PICTURES, bare
from prior_engine.models.weights.wan_vae import residual_vae_name

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def from_files(kind: Any, files: Iterable[Path], config: Mapping[str, Any], dtype: "torch.dtype") -> Any:
    """A component from the files that are its checkpoint together."""
    from safetensors.torch import load_file

    weights: dict[str, torch.Tensor] = {}
    for file in files:
        held = load_gguf(file) if file.suffix == SUFFIX else load_file(file)
        weights |= {bare(name): tensor for name, tensor in held.items() if not is_never_asked(name)}
    make = _diffusers_model if hasattr(kind, "from_single_file") else _encoder
    model, left = make(kind, config, weights, dtype)
    if left:
        log.warning(
            "%d weights were left out, since %s has no place for them, such as %r", len(left), kind.__name__, left[0]
        )
    return model


def _diffusers_model(
    kind: Any, config: Mapping[str, Any], weights: "dict[str, torch.Tensor]", dtype: "torch.dtype"
) -> tuple[Any, list[str]]:
    """A model of diffusers. Its own `from_single_file` casts what has to stay in fp32, and other bits would come out."""
    import torch
    from accelerate import init_empty_weights

    with init_empty_weights():
        model = kind.from_config(dict(config))
    wanted = model.state_dict()
    # Weights under the names of diffusers need no renaming, whoever wrote the file.
    named = weights if wanted.keys() <= weights.keys() else _as_diffusers_names(kind, config, weights)
    missing = sorted(wanted.keys() - named.keys())
    if missing:
        raise ModelSourceError(f"the files lack {len(missing)} weights of {kind.__name__}, such as {missing[0]!r}")
    exact = set(getattr(kind, "_keep_in_fp32_modules", None) or ())
    for name, place in wanted.items():
        found = getattr(named[name], "quant_shape", named[name].shape)
        if tuple(found) != tuple(place.shape):
            raise ModelSourceError(
                f"the weight {name!r} is {tuple(found)} in the files and {tuple(place.shape)} in {kind.__name__}"
            )
    packed = put_packed(model, named, exact, dtype)
    cast = {
        name: named[name].to(torch.float32 if exact & set(name.split(".")) else dtype)
        for name in wanted.keys() - packed
    }
    model.load_state_dict(cast, assign=True, strict=not packed)
    return model, sorted(named.keys() - wanted.keys())


def _as_diffusers_names(
    kind: Any, config: Mapping[str, Any], weights: "dict[str, torch.Tensor]"
) -> "dict[str, torch.Tensor]":
    """The makers' names turned into diffusers', by its own tables as far as they go."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if config.get("is_residual"):
        return {residual_vae_name(name): tensor for name, tensor in weights.items()}
    theirs, ours = TWO_PICTURES
    weights = {f"condition_embedder.{ours}" if name == theirs else name: each for name, each in weights.items()}
    rename = SINGLE_FILE_LOADABLE_CLASSES.get(kind.__name__, {}).get("checkpoint_mapping_fn")
    if rename is None:
        return weights
    named: dict[str, torch.Tensor] = rename(weights, config=dict(config))
    return named


def _encoder(
    kind: Any, config: Mapping[str, Any], weights: "dict[str, torch.Tensor]", dtype: "torch.dtype"
) -> tuple[Any, list[str]]:
    """A text or picture encoder, its weights under Wan's names or under those of transformers."""
    named = _apart({picture_name(text_name(name)): tensor for name, tensor in weights.items()})
    if "shared.weight" in named:
        named.setdefault("encoder.embed_tokens.weight", named["shared.weight"])
    made = kind.config_class(**{name: value for name, value in config.items() if name != "model_type"})
    model, told = kind.from_pretrained(None, config=made, state_dict=named, dtype=dtype, output_loading_info=True)
    missing = sorted(told["missing_keys"])
    if missing:
        raise ModelSourceError(f"the files of {kind.__name__} lack {len(missing)} weights, such as {missing[0]!r}")
    return model, sorted(told["unexpected_keys"])


def _apart(weights: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """What open-clip keeps in one tensor and transformers in three, and a batch of one around what is no batch."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if ".to_qkv." in name:
            for which, third in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("to_qkv", f"{which}_proj")] = third.clone()
        elif name == "embeddings.class_embedding":
            found[name] = tensor.reshape(-1)
        elif name == "embeddings.position_embedding.weight":
            found[name] = tensor.reshape(tensor.shape[-2:])
        else:
            found[name] = tensor
    return found
