"""Every family: the recorded run is the plain pipeline's own, and resuming it anywhere gives the same bits."""

import numpy as np
import pytest
import torch
from engine_cases import ALL_KINDS, BOTH_DTYPES, OWN, identity, own_schedule, plain_arguments, told

from prior_engine import ResumeOptions, RunOptions, Snapshot


@pytest.fixture(scope="module")
def plain(tiny):
    """The pipeline as a user of diffusers has it, with nothing of ours in it."""
    from diffusers import DiffusionPipeline

    def run(kind, output_type, dtype="float32", **more):
        dtypes = {"default": getattr(torch, dtype)}
        if kind.startswith("wan"):
            dtypes["vae"] = torch.float32  # as its makers ask for
        pipe = DiffusionPipeline.from_pretrained(tiny(kind), dtype=dtypes)
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator("cpu").manual_seed(7)
        return pipe(**plain_arguments(kind), **more, generator=generator, output_type=output_type, return_dict=False)[0]

    return run


@pytest.fixture(scope="module")
def priors(engine):
    made = {}

    def prior(kind, dtype="float32"):
        if (kind, dtype) not in made:
            run = engine(kind, dtype).record(identity(kind), told(kind), own_schedule(kind))
            made[kind, dtype] = list(run)
        return made[kind, dtype]

    return prior


@BOTH_DTYPES
@ALL_KINDS
def test_a_recorded_run_is_the_plain_pipelines_own(kind, dtype, plain, priors):
    assert torch.equal(plain(kind, "latent", dtype), priors(kind, dtype)[-1].latents)


def test_the_scale_of_the_control_is_the_plain_pipelines_own(plain, engine):
    (*_, last) = engine("wan-vace").record(identity("wan-vace", control_scale=0.5), told("wan-vace"), OWN)
    assert torch.equal(plain("wan-vace", "latent", conditioning_scale=0.5), last.latents)
    assert not torch.equal(plain("wan-vace", "latent"), last.latents)


@BOTH_DTYPES
@ALL_KINDS
def test_decoding_gives_the_plain_pipelines_pixels(kind, dtype, plain, priors, engine):
    decoded = np.stack(list(engine(kind, dtype).decode(priors(kind, dtype)[-1])))
    video = plain(kind, "np", dtype)
    expected = (np.asarray(video).reshape(decoded.shape) * 255).round().astype(np.uint8)
    assert np.array_equal(decoded, expected)


@BOTH_DTYPES
@ALL_KINDS
def test_resuming_with_the_same_prompt_gives_the_same_bits(kind, dtype, priors, engine):
    prior = priors(kind, dtype)
    for step in (0, len(prior) // 2, len(prior) - 2):
        stored = Snapshot.from_parts(prior[step].tensors(), prior[step].metadata())
        variant = engine(kind, dtype).resume(stored, identity(kind), told(kind), own_schedule(kind))
        assert torch.equal(variant.latents.latents, prior[-1].latents), f"resumed after step {step}"
        assert variant.steps_run == len(prior) - 1 - step


@ALL_KINDS
def test_another_prompt_gives_another_video(kind, priors, engine):
    prior = priors(kind)
    variant = engine(kind, "float32").resume(prior[0], identity(kind), told(kind, "a blue ball"), own_schedule(kind))
    assert not torch.equal(variant.latents.latents, prior[-1].latents)


@pytest.mark.parametrize("tail", [1, 2, 3])
@ALL_KINDS
def test_a_re_spaced_tail_runs_in_as_many_steps_as_asked(kind, tail, priors, engine):
    prior = priors(kind)
    seen = []
    variant = engine(kind, "float32").resume(
        prior[1],
        identity(kind),
        told(kind),
        own_schedule(kind),
        how=ResumeOptions(tail=tail),
        options=RunOptions(on_step=lambda step, _: seen.append(step)),
    )
    assert (variant.tail, variant.steps_run, seen) == ("re-spaced", tail, list(range(tail)))
    assert variant.latents.latents.shape == prior[-1].latents.shape
