"""A Wan model as its makers publish it: one folder, their own names, no index.

A transformer's own config says how it is built; the rest is what all models of its kind share.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prior_engine.errors import ModelSourceError
from prior_engine.models.trusted import PICKLES, read_json
from prior_engine.models.weights.clip import picture_config, processor_config
from prior_engine.models.weights.parts import Part, find_part, refusal_of_pickle
from prior_engine.models.weights.umt5 import text_config
from prior_engine.models.weights.wan_config import transformer_config
from prior_engine.models.weights.wan_vae import vae_config

_TRANSFORMER = "diffusion_pytorch_model*.safetensors"
_TOKENIZER = Path("google", "umt5-xxl")
# For the early and noisy steps, and for the late ones.
_EXPERTS = {"transformer": "high_noise_model", "transformer_2": "low_noise_model"}
# The classes that Wan's own code has: WanModel, VaceWanModel, WanAnimateModel, WanModel_S2V and so on.
_CLASS = re.compile(r"\w*Wan(?!Transformer)\w*Model\w*")
_READ = ("WanModel", "VaceWanModel")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """What all models of a type share."""

    pipeline: str
    # How many pictures the transformer sees through a CLIP.
    pictures: int = 0
    control: bool = False
    vae: str = "2.1"
    # As Wan's own conversions to diffusers have it.
    flow_shift: float = 3.0
    settings: Mapping[str, Any] = field(default_factory=dict)


# By the type that the config names, and by how many experts there are.
_KINDS = {
    ("t2v", 1): _Kind(pipeline="WanPipeline"),
    ("i2v", 1): _Kind(pipeline="WanImageToVideoPipeline", pictures=1),
    ("flf2v", 1): _Kind(pipeline="WanImageToVideoPipeline", pictures=2, flow_shift=16.0),
    ("vace", 1): _Kind(pipeline="WanVACEPipeline", control=True),
    ("t2v", 2): _Kind(pipeline="WanPipeline", settings={"boundary_ratio": 0.875}),
    ("i2v", 2): _Kind(pipeline="WanImageToVideoPipeline", settings={"boundary_ratio": 0.9}),
    ("ti2v", 1): _Kind(pipeline="WanPipeline", vae="2.2", flow_shift=5.0, settings={"expand_timesteps": True}),
}


def is_original(folder: Path) -> bool:
    """Whether a folder is one, be it of a kind that is read or not."""
    if (folder / "model_index.json").exists():
        return False
    configs = [place / "config.json" for place in (folder, *(folder / name for name in _EXPERTS.values()))]
    return any(
        _CLASS.fullmatch(str(read_json(config).get("_class_name"))) is not None
        for config in configs
        if config.is_file()
    )


class Original:
    """What such a folder holds, in the words of diffusers. Of what is `given` from elsewhere nothing needs to be there."""

    def __init__(self, folder: Path, given: Mapping[str, Part]) -> None:
        self.folder = folder
        halves = any((folder / name).is_dir() for name in _EXPERTS.values())
        self._places = {name: folder / half for name, half in _EXPERTS.items()} if halves else {"transformer": folder}
        self._own = {name: read_json(place / "config.json") for name, place in self._places.items()}
        self._kind = self._known()
        wanted = {name: (place, _TRANSFORMER) for name, place in self._places.items()}
        wanted |= {"text_encoder": (folder, "models_t5_*"), "vae": (folder, f"Wan{self._kind.vae}_VAE*")}
        if self._kind.pictures:
            wanted["image_encoder"] = (folder, "models_clip_*")
        self.parts = {name: given.get(name) or self._found(name, *where) for name, where in wanted.items()}
        self.parts["tokenizer"] = given.get("tokenizer") or Part(name="tokenizer", folder=folder / _TOKENIZER)

    @property
    def index(self) -> dict[str, Any]:
        """As model_index.json would have it."""
        place = self.parts["tokenizer"].folder or self.folder / _TOKENIZER
        tokenizer = read_json(place / "tokenizer_config.json")
        kind = "WanVACETransformer3DModel" if self._kind.control else "WanTransformer3DModel"
        pictures = {
            "image_encoder": ["transformers", "CLIPVisionModel"],
            "image_processor": ["transformers", "CLIPImageProcessor"],
        }
        return {
            "_class_name": self._kind.pipeline,
            **{name: ["diffusers", kind] for name in self._places},
            "vae": ["diffusers", "AutoencoderKLWan"],
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "tokenizer": ["transformers", tokenizer.get("tokenizer_class", "T5TokenizerFast")],
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            **(pictures if self._kind.pictures else {}),
            **self._kind.settings,
        }

    @property
    def configs(self) -> Mapping[str, dict[str, Any]]:
        """What the config.json of each component would hold that does not bring its own."""
        shapes = {name: part.shapes() for name, part in self.parts.items() if part.files}
        found = {
            name: transformer_config(
                self._own[name],
                shapes[name],
                place / "config.json",
                pictures=self._kind.pictures,
                control=self._kind.control,
            )
            for name, place in self._places.items()
            if name in shapes
        }
        if "vae" in shapes:
            found["vae"] = vae_config(shapes["vae"], self._kind.vae)
        if "text_encoder" in shapes:
            found["text_encoder"] = text_config(shapes["text_encoder"])
        if "image_encoder" in shapes:
            found["image_encoder"] = picture_config(shapes["image_encoder"])
        if self._kind.pictures:
            seen = found.get("image_encoder") or read_json(
                (self.parts["image_encoder"].folder or self.folder) / "config.json"
            )
            found["image_processor"] = processor_config(seen)
        found["scheduler"] = {
            "_class_name": "UniPCMultistepScheduler",
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "num_train_timesteps": 1000,
            "flow_shift": self._kind.flow_shift,
        }
        return found

    def _known(self) -> _Kind:
        """What is known of the type that the config names, or why it is not read."""
        named = {name: (str(own.get("_class_name")), str(own.get("model_type"))) for name, own in self._own.items()}
        kind, model_type = named["transformer"]
        if len(set(named.values())) > 1:
            raise ModelSourceError(
                f"{str(self.folder)!r} holds halves of two models: its high_noise_model is of the type {model_type!r}, and its "
                f"low_noise_model is of the type {named['transformer_2'][1]!r}; take both from one model"
            )
        known = _KINDS.get((model_type, len(named))) if kind in _READ else None
        if known is None:
            count = "" if len(named) == 1 else "two experts of "
            raise ModelSourceError(
                f"{str(self.folder)!r} is a Wan model in its makers' layout, with {count}the type {model_type!r} and the "
                f"class {kind!r}; of that layout text to video, image to video, first and last frame, VACE, and Wan 2.2's three are "
                "read; take the model in diffusers layout, if its pipeline is supported"
            )
        return known

    def _found(self, name: str, place: Path, pattern: str) -> Part:
        """The files of a pattern: safetensors, or what to do about a pickle."""
        found = sorted(place.glob(pattern))
        if pattern == _TRANSFORMER:
            return find_part(name, [str(file) for file in found] or [str(place / pattern)])
        good = [file for file in found if file.suffix == ".safetensors"]
        if good:
            return find_part(name, [str(good[0])])
        pickles = [file for file in found if file.suffix in PICKLES]
        if pickles:
            raise ModelSourceError(refusal_of_pickle(pickles[0]))
        raise ModelSourceError(f"{str(place)!r} has no {pattern!r}; is the download whole?")
