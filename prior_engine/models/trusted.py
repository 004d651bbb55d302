"""What of a model folder may be loaded: public classes of two libraries, and weights that are no pickles.

A folder comes from anywhere. All is refused that would run code in it or code that it names, before anything is loaded.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError

# By the name of the component, without its number: the library, and the classes that make sense there.
_CLASSES = {
    "scheduler": ("diffusers", r"\w+Scheduler"),
    "transformer": ("diffusers", r"\w*Transformer\w*Model"),
    "vae": ("diffusers", r"Autoencoder\w+"),
    "text_encoder": ("transformers", r"\w+(Model|ForCausalLM|ForConditionalGeneration|WithProjection)"),
    "tokenizer": ("transformers", r"\w*(Tokenizer|TokenizerFast|TokenizersBackend)"),
    "image_encoder": ("transformers", r"\w+(Model|WithProjection)"),
    "image_processor": ("transformers", r"\w+(ImageProcessor|ImageProcessorFast|ImageProcessorPil)"),
    "feature_extractor": ("transformers", r"\w+(ImageProcessor|ImageProcessorFast|ImageProcessorPil|FeatureExtractor)"),
}
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
# Settings that can name code on the hub, as owner/name.
_KERNELS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")


def trusted_components(
    index: Mapping[str, Any], folder: Path, elsewhere: Collection[str] = ()
) -> dict[str, tuple[str, str]]:
    """The components that a model's index names, each with its library and class; some may lie elsewhere."""
    components = {}
    for name, value in index.items():
        if not is_component(value) or None in value:
            continue
        _check_class(name, value)
        components[name] = (value[0], value[1])
        if name not in elsewhere and name.isidentifier() and (folder / name).is_dir():
            check_files(name, folder / name)
    return components


def is_component(value: Any) -> bool:
    """Whether an entry of a model's index is a component: library and class."""
    return isinstance(value, list) and len(value) == 2


def _check_class(name: str, value: list[Any]) -> None:
    library, kind = value
    wanted, kinds = _CLASSES.get(re.sub(r"_\d+$", "", name), (library, r"\w+"))
    if (
        not name.isidentifier()
        or library not in ("diffusers", "transformers")
        or library != wanted
        or not isinstance(kind, str)
        or not re.fullmatch(kinds, kind)
        or not kind[0].isupper()
    ):
        raise ModelSourceError(
            f"the component {name!r} is to be a {kind!r} of {library!r}; only classes of diffusers and transformers that are made "
            "for a component of this name are loaded, never code that comes with a model; use a model in plain diffusers layout"
        )


def check_files(name: str, part: Path) -> None:
    """Refuse a component's folder that names code, or has its weights in pickles alone."""
    for file in part.glob("*config.json"):
        config = read_json(file)
        if "auto_map" in config or file.name == "adapter_config.json":
            raise ModelSourceError(
                f"{name}/{file.name} names code or another model that is to be loaded with this one, which is not done; "
                "use a model in plain diffusers layout"
            )
        kernels = [key for key in _KERNELS if "/" in str(config.get(key))]
        if kernels:
            raise ModelSourceError(
                f"{name}/{file.name} names code on the hub, {kernels[0]}={config[kernels[0]]!r}, which is not loaded; remove the entry"
            )
    for weights in _named_weights(part):
        if "/" in weights or "\\" in weights or not weights.endswith(".safetensors"):
            raise ModelSourceError(
                f"the component {name!r} names {weights!r} as its weights; only safetensors files of its own folder are opened"
            )
    pickles = sorted(file.name for file in part.iterdir() if file.suffix in PICKLES)
    if pickles and not any(part.glob("*.safetensors")):
        raise ModelSourceError(
            f"the component {name!r} has its weights in {pickles[0]!r} only, and pickles are never opened, since they can run code; "
            f"get the model with safetensors files, or convert it once: headstart models convert {part / pickles[0]}"
        )


def _named_weights(part: Path) -> Iterator[str]:
    for file in part.glob("*.safetensors.index.json"):
        shards = read_json(file).get("weight_map")
        yield from sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else ()
    config = read_json(part / "config.json") if (part / "config.json").is_file() else {}
    if "transformers_weights" in config:
        yield str(config["transformers_weights"]).removesuffix(".index.json")


def read_json(path: Path) -> dict[str, Any]:
    """A settings file of a model."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelSourceError(f"the model has no {path.parent.name}/{path.name}; is the download whole?") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise ModelSourceError(
            f"{path.parent.name}/{path.name} is not JSON ({problem}); is the download whole?"
        ) from None
    if not isinstance(found, dict):
        raise ModelSourceError(f"{path.parent.name}/{path.name} is not a JSON object; is the download whole?")
    return found
