"""Every step is walked once: none twice, none skipped; and what goes wrong on the way is said."""

from itertools import pairwise

import pytest
import torch
from engine_cases import OWN, identity, told
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prior_engine import Engine, Keep, ModelSpec, ResumeOptions, RunOptions, Schedule
from prior_engine.errors import NonFiniteLatentsError, OutOfDeviceMemoryError, RequestError, RunCancelledError

fast = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Calls:
    """Counts the transformer's calls and the timesteps it was asked for."""

    def __init__(self, engine):
        self.times = []
        engine._components.need("transformer")
        self._handle = engine._components.pipe.transformer.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs):
        self.times.append(float(kwargs["timestep"].flatten()[0]))

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self._handle.remove()


def check_counts(engine, kind, schedule, k_share):
    unguided = told(kind, guidance=1.0)
    with Calls(engine) as full:
        prior = list(engine.record(identity(kind), unguided, schedule))
    assert full.times == pytest.approx([one.timestep for one in prior])
    assert full.times == sorted(full.times, reverse=True)
    if len(prior) < 2:
        return
    k = min(int(k_share * (len(prior) - 1)), len(prior) - 2)
    with Calls(engine) as rest:
        variant = engine.resume(prior[k], identity(kind), unguided, schedule)
    assert rest.times == full.times[k + 1 :]
    assert variant.steps_run == len(rest.times)
    assert torch.equal(variant.latents.latents, prior[-1].latents)


@fast
@given(
    steps=st.integers(1, 7),
    k_share=st.floats(0, 1),
    shift=st.floats(0.5, 12),
    solver=st.sampled_from(["FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler"]),
)
def test_each_step_is_walked_once(engine, steps, k_share, shift, solver):
    check_counts(
        engine("wan-t2v"), "wan-t2v", Schedule(scheduler=solver, num_inference_steps=steps, sigma_shift=shift), k_share
    )


@fast
@given(
    steps=st.integers(2, 7),
    k_share=st.floats(0, 1),
    shift=st.floats(0.5, 12),
    strength=st.floats(0.3, 1),
    grid=st.sampled_from(["wan", "diffusers"]),
)
def test_each_step_is_walked_once_with_either_meaning_of_strength(engine, steps, k_share, shift, strength, grid):
    schedule = Schedule(grid=grid, num_inference_steps=steps, sigma_shift=shift, denoising_strength=strength)
    if grid == "diffusers" and int(steps * strength) < 1:
        with pytest.raises(RequestError, match="leaves none of"):
            engine("wan-v2v").pins(identity("wan-v2v"), told("wan-v2v"), schedule)
        return
    check_counts(engine("wan-v2v"), "wan-v2v", schedule, k_share)


def test_the_two_meanings_of_strength(engine):
    reference = Schedule(num_inference_steps=10, denoising_strength=0.6)
    trimmed = Schedule(num_inference_steps=10, denoising_strength=0.6, grid="diffusers")
    one = engine("wan-v2v")
    made = {s.grid: list(one.record(identity("wan-v2v"), told("wan-v2v"), s)) for s in (reference, trimmed)}
    assert (len(made["wan"]), len(made["diffusers"])) == (10, 6)
    assert made["wan"][0].timestep == pytest.approx(1000 * 5 * 0.6 / (1 + 4 * 0.6), abs=1e-2)
    assert made["diffusers"][0].timestep == pytest.approx(made["diffusers"][0].timesteps[4])


def test_the_reference_meaning_of_strength_starts_from_the_noised_video(engine):
    """latents = (1 - s) z + s noise with s the first sigma, as the reference does it."""
    one = engine("wan-v2v")
    schedule = Schedule(num_inference_steps=2, denoising_strength=0.5)
    seen = []
    vae = one._components.pipe.vae
    one._components.need("transformer")
    handle = one._components.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["hidden_states"].clone()), with_kwargs=True
    )
    list(one.record(identity("wan-v2v"), told("wan-v2v", guidance=1.0), schedule))
    handle.remove()
    frames = one._components.pipe.video_processor.preprocess_video(identity("wan-v2v").video.images(), 32, 32)
    with torch.no_grad():
        z = vae.encode(frames).latent_dist.mode()
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    z = (z - mean) / std
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(7))
    sigma = 5 * 0.5 / (1 + 4 * 0.5)
    torch.testing.assert_close(seen[0], (1 - sigma) * z + sigma * noise, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("keep", "steps"), [("all", [0, 1, 2, 3, 4, 5]), ("from:4", [4, 5]), ("from:9", []), ([1, 5], [1, 5]), ((), [])]
)
def test_the_kept_steps_are_those_that_were_asked_for(keep, steps, engine):
    run = engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), OWN, options=RunOptions(keep=Keep(keep)))
    assert [snapshot.step for snapshot in run] == steps


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([6], r"steps \[6\] cannot be kept; this run has the steps 0\.\.5"),
        ("last", "'last' is not known; use all, from:K or a list"),
        (3, "3 is not known"),
        ([True], "is not known"),
    ],
)
def test_steps_that_do_not_exist_cannot_be_kept(keep, message, engine):
    with pytest.raises(RequestError, match=message):
        engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), OWN, options=RunOptions(keep=Keep(keep)))


def test_a_run_is_cancelled_between_steps_and_continued_with_the_same_bits(engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), OWN)
    whole = list(one.record(*asked))
    done = []
    made = []
    run = one.record(
        *asked, options=RunOptions(on_step=lambda step, _: done.append(step), cancel=lambda: len(done) == 3)
    )
    with pytest.raises(RunCancelledError, match="cancelled after step 2 of 6"):
        made.extend(run)
    assert [snapshot.step for snapshot in made] == done == [0, 1, 2]
    rest = list(one.record(*asked, after=made[-1]))
    assert torch.equal(rest[-1].latents, whole[-1].latents)


def test_progress_is_told_with_the_numbers_of_the_full_run(engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), OWN)
    prior = list(one.record(*asked))
    told_steps = []
    one.resume(prior[2], *asked, options=RunOptions(on_step=lambda step, steps: told_steps.append((step, steps))))
    assert told_steps == [(3, 6), (4, 6), (5, 6)]


def test_latents_that_are_not_finite_stop_the_run(engine):
    one = Engine(ModelSpec(source=str(engine("wan-t2v").info.layout.folder), device="cpu"))
    with Calls(one) as calls:
        transformer = one._components.pipe.transformer
        handle = transformer.register_forward_hook(
            lambda module, args, out: (out[0] * float("nan"),) if len(calls.times) == 3 else None
        )
        unguided = told("wan-t2v", guidance=1.0)
        with pytest.raises(NonFiniteLatentsError, match=r"NaN or Inf in the latents after step 2 of 6 \(sigma 0\.\d+"):
            one.scratch(identity("wan-t2v"), unguided, OWN)
        handle.remove()
    assert one.scratch(identity("wan-t2v"), unguided, OWN).latents.is_final


def test_an_accelerator_out_of_memory_is_a_sentence_and_the_engine_goes_on(engine):
    one = Engine(ModelSpec(source=str(engine("wan-t2v").info.layout.folder), device="cpu"))
    expected = one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN)

    def overflow(module, args, kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nlong advice")

    handle = one._components.pipe.transformer.register_forward_pre_hook(overflow, with_kwargs=True)
    with pytest.raises(OutOfDeviceMemoryError) as caught:
        one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN)
    with pytest.raises(MemoryError):
        list(one.record(identity("wan-t2v"), told("wan-t2v"), OWN))
    handle.remove()
    message = str(caught.value)
    assert "Tried to allocate 2.00 GiB" in message
    assert "long advice" not in message
    for setting in ("batch_size=1", "offload='group'", "quantization='float8_e4m3fn'"):
        assert setting in message
    again = one.scratch(identity("wan-t2v"), told("wan-t2v"), OWN)
    assert torch.equal(again.latents.latents, expected.latents.latents)


def test_determinism_is_set_for_the_run_and_put_back_after_it(engine):
    during = []
    one = engine("wan-t2v")
    one.scratch(
        identity("wan-t2v"),
        told("wan-t2v"),
        OWN,
        options=RunOptions(
            on_step=lambda *_: during.append(
                (
                    torch.are_deterministic_algorithms_enabled(),
                    torch.backends.cudnn.benchmark,
                    torch.backends.cudnn.allow_tf32,
                )
            )
        ),
    )
    assert set(during) == {(True, False, False)}
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.allow_tf32


def test_strength_without_a_video_is_refused(engine):
    with pytest.raises(RequestError, match=r"denoising_strength=0.5 needs an input video"):
        engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), Schedule(denoising_strength=0.5))


def test_a_second_guidance_without_a_second_expert_is_refused(engine):
    with pytest.raises(RequestError, match=r"guidance_2=4.0 was given, but this model has one expert"):
        engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v", guidance_2=4.0), OWN)


@pytest.mark.parametrize("tail", [0, -1, True, "short", 1.5])
def test_a_tail_that_is_no_number_of_steps_is_refused(tail):
    with pytest.raises(RequestError, match="tail is .*; 'exact' or a number of steps from 1 is needed"):
        ResumeOptions(tail=tail)


@pytest.mark.parametrize(
    "solver", ["FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "FlowMatchLCMScheduler"]
)
@pytest.mark.parametrize("tail", ["exact", 4])
def test_a_variant_can_be_a_prior_itself(solver, tail, engine):
    """Priors form a tree: what a variant keeps is resumed by the schedule that it walked."""
    one, schedule = engine("wan-t2v"), Schedule(scheduler=solver, num_inference_steps=6)
    prior = list(one.record(identity("wan-t2v"), told("wan-t2v"), schedule))
    blue = told("wan-t2v", "a blue ball")
    variant = one.resume(
        prior[1],
        identity("wan-t2v"),
        blue,
        schedule,
        how=ResumeOptions(tail=tail),
        options=RunOptions(keep=Keep("all")),
    )
    assert [one.step for one in variant.kept] == ([2, 3, 4, 5] if tail == "exact" else [0, 1, 2, 3])
    for snapshot in variant.kept[:-1]:
        again = one.resume(snapshot, identity("wan-t2v"), blue, variant.schedule)
        assert torch.equal(again.latents.latents, variant.latents.latents), snapshot.step


def test_a_running_resume_is_cancelled_too(engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), OWN)
    prior = list(one.record(*asked))
    with pytest.raises(RunCancelledError, match="cancelled after step 3 of 6; continue from a kept snapshot"):
        one.resume(prior[2], *asked, options=RunOptions(cancel=lambda: True))
    assert torch.equal(one.resume(prior[2], *asked).latents.latents, prior[-1].latents)


@fast
@given(
    steps=st.integers(2, 8),
    k_share=st.floats(0, 1),
    shift=st.floats(0.5, 12),
    tail=st.integers(1, 6),
    solver=st.sampled_from(
        ["FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"]
    ),
)
@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")  # diffusers' own, see test_solvers
def test_a_tail_walks_from_the_snapshots_noise_to_none(engine, steps, k_share, shift, tail, solver):
    one, unguided = engine("wan-t2v"), told("wan-t2v", guidance=1.0)
    schedule = Schedule(scheduler=solver, num_inference_steps=steps, sigma_shift=shift)
    k = min(int(k_share * (steps - 1)), steps - 2)
    (start,) = one.record(identity("wan-t2v"), unguided, schedule, options=RunOptions(keep=Keep([k])))
    with Calls(one) as calls:
        variant = one.resume(start, identity("wan-t2v"), unguided, schedule, how=ResumeOptions(tail=tail))
    sigmas = variant.latents.sigmas
    assert len(calls.times) == tail
    assert sigmas[0] == pytest.approx(start.sigma, abs=1e-6)
    assert sigmas[-1] == 0
    assert all(now > after for now, after in pairwise(sigmas))
    assert calls.times[0] == pytest.approx(1000 * start.sigma, abs=1.001)
