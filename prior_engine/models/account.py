"""What a model takes of a device's memory, by the books: counted from headers and configurations, nothing is loaded.

Checked against peaks that were measured on a GPU (docs/performance.md): within 3 %, within 20 % where weights wait elsewhere.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from types import MappingProxyType

from prior_engine.models.info import EXPERTS, MAY_WAIT, TEXT_ENCODERS, ModelInfo
from prior_engine.models.weights.clip import is_never_asked
from prior_engine.models.weights.gguf_file import Weight, packed_in
from prior_engine.models.weights.parts import Shapes, shapes_of
from prior_engine.models.weights.quantized import WAYS, Way

GIB = 2**30
# Tables of words and places, norms, and what UMT5's makers want exact; under both its names.
_EXACT_TEXT = re.compile(r"shared|embed|bias|norm|\.wo\.|\.fc2\.")
_BLOCK = re.compile(r"(?:model\.)?(?:diffusion_model\.)?(\w*blocks)\.(\d+)\.")
# Bytes of decoding a pixel: Wan's VAE in fp32, frame by frame, which keeps what it needs of earlier frames.
_DECODING = 20_000
_TILE = 256
_NOTHING_PACKED: Mapping[str, Weight] = MappingProxyType({})
# Rows of a block's width that live at once beside the widest one.
_ROWS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Phase:
    """A part of a run, and what is on the device then, in GiB. `work` is None where it is not known for this family."""

    name: str
    weights: float
    work: float | None

    @property
    def total(self) -> float:
        """Both, as far as they are known."""
        return self.weights + (self.work or 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Numbers in a component: all, those of its largest layer and block, and those outside of blocks.

    Packed weights stand beside them, in bytes; `layer` is what the largest takes while it is made plain.
    """

    whole: int
    layer: int
    block: int
    outside: int
    # Of `whole`, what keeps its precision where the rest is put into fewer bits, and the largest layer of the rest.
    exact: int = 0
    widest: int | None = None
    packed: "Held | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Of a video."""

    height: int
    width: int
    frames: int


def counted_of(shapes: Shapes, packed: Mapping[str, Weight] = _NOTHING_PACKED) -> Held:
    """Count a component's weights; some of them may be packed."""
    held = _tally({name: prod(shape) for name, shape in shapes.items() if name not in packed})
    if not packed:
        return held
    largest = max(weight.unpacking for weight in packed.values())
    return replace(held, packed=replace(_tally({name: weight.size for name, weight in packed.items()}), layer=largest))


def with_exact(held: Held, shapes: Shapes) -> Held:
    """What of a text encoder keeps its bits."""
    rest = counted_of({name: shape for name, shape in shapes.items() if not _EXACT_TEXT.search(name)})
    return replace(held, exact=held.whole - rest.whole, widest=rest.layer)


def _tally(counts: Mapping[str, int]) -> Held:
    layers: dict[str, int] = {}
    blocks: dict[str, int] = {}
    outside = 0
    for name, count in counts.items():
        layer, block = name.rpartition(".")[0], _BLOCK.match(name)
        layers[layer] = layers.get(layer, 0) + count
        if block is None:
            outside += count
        else:
            blocks[block[0]] = blocks.get(block[0], 0) + count
    return Held(
        whole=sum(layers.values()),
        layer=max(layers.values(), default=0),
        block=max(blocks.values(), default=0),
        outside=outside,
    )


def counted(info: ModelInfo) -> dict[str, Held]:
    """Every component that has weights, from the headers of its files."""
    found = {}
    for name in info.components:
        place: Path = info.layout.place(name)
        files = info.layout.files(name) or tuple(sorted(place.glob("*.safetensors")))
        if files:
            packed = {weight: told for file in files for weight, told in packed_in(file).items()}
            shapes = {weight: shape for file in files for weight, shape in shapes_of(file).items()}
            asked = {weight: shape for weight, shape in shapes.items() if not is_never_asked(weight)}
            found[name] = counted_of(asked, packed)
            if name in TEXT_ENCODERS:
                found[name] = with_exact(found[name], asked)
    return found


def gib(name: str, part: Held, info: ModelInfo, offload: str = "none") -> float:
    """What a component's weights take on the device at the precision of the run."""
    each = 4 if info.dtype == "float32" or (name == "vae" and info.family.vae_in_float32) else 2
    way = way_of(info, name)
    stored = each if way is None else way.stored
    waits = offload != "none" and name in MAY_WAIT
    exact = 0 if waits else part.exact
    # Of fewer bits a layer is made wide again while it works.
    taken = (_at_once(part, waits=waits) - exact) * stored + exact * each
    taken += (part.layer if part.widest is None else part.widest) * each if way is not None and way.widens else 0
    if part.packed is not None:
        taken += _at_once(part.packed, waits=waits) + part.packed.layer
    return taken / GIB


def _at_once(part: Held, *, waits: bool) -> int:
    if not waits:
        return part.whole
    # The next one comes while one works.
    return part.outside + 2 * part.block if part.block else 2 * part.layer


def way_of(info: ModelInfo, name: str = "transformer") -> Way | None:
    """In which way a component is in fewer bits."""
    asked = info.quantization if name in EXPERTS else info.text_quantization if name in TEXT_ENCODERS else None
    return None if asked is None else WAYS[asked]


def phases(info: ModelInfo, parts: Mapping[str, Held], size: Size, offload: str = "none") -> tuple[Phase, ...]:
    """Reading prompts, denoising and decoding: text encoders are freed before experts come, the VAE is always there."""
    on_device = {name: gib(name, part, info, offload) for name, part in parts.items()}
    always = on_device.get("vae", 0.0)
    pictures = always + on_device.get("image_encoder", 0.0)
    both = [on_device.get(name, 0.0) for name in EXPERTS]
    # Of two experts that wait in main memory one works at a time; else both may be there.
    experts = sum(both) if offload == "none" else max(both)
    return (
        Phase(name="prompts", weights=always + sum(on_device.get(name, 0.0) for name in TEXT_ENCODERS), work=0.0),
        Phase(name="denoising", weights=pictures + experts, work=_denoising(info, size)),
        Phase(name="decoding", weights=pictures + (experts if offload == "none" else 0.0), work=_decoding(info, size)),
    )


def _denoising(info: ModelInfo, size: Size) -> float | None:
    """One pass of a Wan transformer: the widest row of a feed-forward layer, and those around it."""
    config = info.layout.config(next(name for name in EXPERTS if name in info.components))
    if "ffn_dim" not in config or not info.family.name.startswith("wan"):
        return None
    width = config["num_attention_heads"] * config["attention_head_dim"]
    frames = (size.frames - 1) // info.frame_multiple + 1
    passes = 2 if info.merge_guidance else 1
    tokens = passes * frames * (size.height // info.size_multiple) * (size.width // info.size_multiple)
    each, way = 4 if info.dtype == "float32" else 2, way_of(info)
    more = 0.0 if way is None else way.copies * each + way.beside
    return float(tokens * (config["ffn_dim"] * (each + more) + _ROWS * width * each) / GIB)


def _decoding(info: ModelInfo, size: Size) -> float | None:
    """Wan 2.1's VAE; it takes the whole picture at once, or a tile of it."""
    config = info.layout.config("vae")
    if config.get("_class_name") != "AutoencoderKLWan" or config.get("z_dim", 16) != 16:
        return None
    pixels = size.height * size.width
    at_once = min(pixels, _TILE**2) if info.vae_tiling else pixels
    return float(at_once * _DECODING * config.get("base_dim", 96) / 96 / GIB)
