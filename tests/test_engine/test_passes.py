"""How a pass of the transformer is done: guidance in one pass of twice the size. Told in the recipe, and never a silent nothing."""

import pytest
import torch
from engine_cases import identity, told

from prior_engine import Cache, Engine, ModelSpec, RunOptions, Schedule
from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.models.account import Size, counted, phases
from prior_engine.models.info import inspect_model

SCHEDULE = Schedule(num_inference_steps=5)
MERGING = ("wan-t2v", "wan-i2v", "wan-flf2v", "wan-t2v-two-experts", "wan-ti2v", "wan-ti2v-image", "wan-v2v")


def calls_of(engine):
    """The batch sizes of every pass of the experts, while a run is made."""
    sizes = []
    for name in ("transformer", "transformer_2"):
        engine._components.need(name)
        expert = getattr(engine._components.pipe, name, None)
        if expert is not None:
            first = expert.blocks[0]
            first.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


def run(engine, kind, **more):
    return list(engine.record(identity(kind), told(kind, **more), SCHEDULE))


@pytest.fixture(scope="module")
def both(tiny):
    """Engines of a kind, one pass after the other and merged."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = [
                Engine(ModelSpec(source=str(tiny(kind)), device="cpu", merge_guidance=merge)) for merge in (False, True)
            ]
        return made[kind]

    return of


@pytest.mark.parametrize("kind", MERGING)
def test_guidance_takes_one_pass_of_twice_the_size(both, kind):
    plain, merged = both(kind)
    sizes = calls_of(merged)
    ours, theirs = run(merged, kind), run(plain, kind)
    assert sizes == [2] * len(ours)
    torch.testing.assert_close(ours[-1].latents, theirs[-1].latents, rtol=1e-3, atol=1e-4)
    # Resumed in the same way, the bits are those of the whole run.
    resumed = merged.resume(ours[1], identity(kind), told(kind), SCHEDULE)
    assert torch.equal(resumed.latents.latents, ours[-1].latents)


def test_without_guidance_there_is_nothing_to_merge(both):
    plain, merged = both("wan-t2v")
    sizes = calls_of(merged)
    ours, theirs = (run(engine, "wan-t2v", guidance=1.0) for engine in (merged, plain))
    assert set(sizes) == {1}
    assert torch.equal(ours[-1].latents, theirs[-1].latents)


def test_a_batch_is_doubled_whole(both):
    plain, merged = both("wan-t2v")
    prior = run(plain, "wan-t2v")[1]
    rows = [told("wan-t2v", prompt) for prompt in ("it falls", "it rises")]
    sizes = calls_of(merged)
    merged_prior = run(merged, "wan-t2v")[1]
    sizes.clear()
    ours = merged.resume_batch(merged_prior, identity("wan-t2v"), rows, SCHEDULE)
    theirs = plain.resume_batch(prior, identity("wan-t2v"), rows, SCHEDULE)
    assert set(sizes) == {4}
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.latents.latents, other.latents.latents, rtol=1e-3, atol=1e-4)


def test_the_model_is_as_it_was_after_a_run_and_after_one_that_failed(both):
    _, merged = both("wan-t2v")
    run(merged, "wan-t2v")
    expert = merged._components.pipe.transformer
    before = expert.forward
    with pytest.raises(ZeroDivisionError):
        list(merged.record(identity("wan-t2v"), told("wan-t2v"), SCHEDULE, options=RunOptions(cancel=lambda: 1 // 0)))
    assert expert.forward == before
    assert "forward" not in vars(expert)


def test_it_is_told_in_the_recipe_and_in_the_books_only_where_it_is_done(tiny):
    plain, merged = (
        inspect_model(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", merge_guidance=merge))
        for merge in (False, True)
    )
    assert "merge_guidance" not in plain.describe()
    assert merged.describe() == {**plain.describe(), "merge_guidance": True}
    size = Size(height=32, width=32, frames=9)
    one, two = (phases(info, counted(info), size)[1].work for info in (plain, merged))
    assert two == 2 * one


@pytest.mark.parametrize("kind", ["ltx", "wan-vace", "flux"])
def test_a_family_that_cannot_says_so_before_anything_is_loaded(tiny, kind):
    with pytest.raises(UnsupportedError, match="merge_guidance cannot be used with"):
        inspect_model(ModelSpec(source=str(tiny(kind)), device="cpu", merge_guidance=True))


def test_a_cache_would_not_tell_the_two_apart(both):
    _, merged = both("wan-t2v")
    prior = run(merged, "wan-t2v")[1]
    cache = Cache(kind="first_block", options={"threshold": 0.5})
    with pytest.raises(RequestError, match="merge_guidance"):
        merged.resume(prior, identity("wan-t2v"), told("wan-t2v"), SCHEDULE, options=RunOptions(cache=cache))
