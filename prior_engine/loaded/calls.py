"""How each family's pipeline is called: which inputs, which embeddings, which guidance."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from prior_engine.errors import RequestError
from prior_engine.models.info import ModelInfo
from prior_engine.requests.conditioning import Conditioning
from prior_engine.requests.embeddings import Embedding
from prior_engine.requests.identity import Identity
from prior_engine.requests.schedule import Schedule


def arguments(
    info: ModelInfo, identity: Identity, told: Conditioning, schedule: Schedule, *, resumes: bool
) -> dict[str, Any]:
    """Everything for the pipeline's call except embeddings, latents and the window's own."""
    family = info.family
    chosen: dict[str, Any] = {
        "height": identity.height,
        "width": identity.width,
        "num_inference_steps": schedule.num_inference_steps,
        "output_type": "latent",
        "return_dict": False,
    }
    if family.media == "video" and not family.trims_strength:
        chosen["num_frames"] = identity.frames
    chosen[family.guidance] = family.default_guidance if told.guidance is None else told.guidance
    if told.guidance_2 is not None:
        chosen["guidance_scale_2"] = told.guidance_2
    if identity.image is not None:
        chosen["image"] = identity.image.image()
    if identity.last_image is not None:
        chosen["last_image"] = identity.last_image.image()
    if family.trims_strength:
        # The pipeline refuses a video beside latents; with the reference's meaning of strength all steps are walked.
        trims = schedule.grid == "diffusers" and not resumes
        chosen["video"] = None if resumes or identity.video is None else identity.video.images()
        chosen["strength"] = schedule.denoising_strength if trims else 1.0
    elif identity.video is not None:
        chosen["video"] = identity.video.images()
    if identity.mask is not None:
        chosen["mask"] = identity.mask.images()
    if identity.references:
        chosen["reference_images"] = [picture.image() for picture in identity.references]
    if identity.control_scale is not None:
        chosen["conditioning_scale"] = identity.control_scale
    return chosen


def embedding_arguments(info: ModelInfo, embeddings: Sequence[Embedding], device: str) -> dict[str, Any]:
    """The embeddings of a batch under the names that the pipeline's call gives them."""
    named: dict[str, Any] = {}
    for name in info.family.embeds:
        # An attention mask without gaps is left out by some encoders.
        if all(name in embedding.prompt for embedding in embeddings):
            named[name] = _stacked([embedding.prompt[name] for embedding in embeddings], device)
        if all(name in embedding.negative for embedding in embeddings):
            named[f"negative_{name}"] = _stacked([embedding.negative[name] for embedding in embeddings], device)
    for name in [name for name in info.family.embeds if name.endswith("_mask")]:
        for prefix in ("", "negative_"):
            embeds = named.get(f"{prefix}prompt_embeds")
            if embeds is not None and f"{prefix}{name}" not in named:
                named[f"{prefix}{name}"] = torch.ones(embeds.shape[:2], dtype=torch.long, device=device)
    return named


def _stacked(tensors: Sequence[torch.Tensor], device: str) -> torch.Tensor:
    if len({tensor.shape for tensor in tensors}) > 1:
        raise RequestError("the embeddings of a batch have different lengths; give all one max_sequence_length")
    return torch.cat([tensor.to(device) for tensor in tensors])


def encode_text(pipe: Any, info: ModelInfo, text: str, length: int) -> dict[str, torch.Tensor]:
    """One text through the pipeline's own `encode_prompt`."""
    accepted = inspect.signature(pipe.encode_prompt).parameters
    options: dict[str, Any] = {"prompt": text, "do_classifier_free_guidance": False, "max_sequence_length": length}
    with torch.no_grad():
        found = pipe.encode_prompt(**{name: value for name, value in options.items() if name in accepted})
    parts = found if isinstance(found, tuple) else (found,)
    named = zip(info.family.embeds, parts, strict=False)
    return {name: tensor.to("cpu") for name, tensor in named if tensor is not None}


def blank_embeddings(info: ModelInfo, device: str) -> dict[str, Any]:
    """Embeddings that say nothing, for a call of the pipeline that makes no step."""
    blank = torch.zeros(1, 1, 1, dtype=getattr(torch, info.dtype), device=device)
    return dict.fromkeys(info.family.embeds, blank)
