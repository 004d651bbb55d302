"""Step caches: only when asked, gone afterwards whatever happens, and never a silent nothing."""

from functools import cache
from itertools import pairwise

import pytest
import torch
from engine_cases import KINDS, OWN, identity, own_schedule, told

from prior_engine import Cache, Engine, Keep, ModelSpec, ResumeOptions, RunOptions, Schedule
from prior_engine.errors import RequestError, UnsupportedError

SCHEDULE = Schedule(num_inference_steps=10)
RATIOS = [1.0] * 10
CACHES = {
    "first_block": Cache(kind="first_block", options={"threshold": 0.5}),
    "mag": Cache(kind="mag", options={"mag_ratios": RATIOS, "threshold": 0.5}),
    "taylorseer": Cache(kind="taylorseer", options={"cache_interval": 3, "disable_cache_before_step": 1}),
    "pab": Cache(kind="pab", options={"spatial_attention_timestep_skip_range": (0, 1000)}),
}


@pytest.fixture(scope="module", params=["wan-t2v", "wan-i2v"])
def warm(request, tiny):
    kind = request.param
    one = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    return kind, one, cache(lambda guidance: list(one.record(identity(kind), told(kind, guidance=guidance), SCHEDULE)))


@pytest.fixture(scope="module")
def prior_of(engine):
    """`prior_of(kind, guidance)` is recorded once; a start from it changes nothing in it."""
    return cache(
        lambda kind, guidance: list(
            engine(kind).record(identity(kind), told(kind, guidance=guidance), own_schedule(kind))
        )
    )


@pytest.fixture
def case(warm, request):
    """An engine, what it is asked, and its prior: unguided for the one cache that cannot tell two calls apart."""
    kind, engine, prior = warm
    guidance = 1.0 if request.node.callspec.params.get("name") == "pab" else 3.0
    asked = identity(kind), told(kind, guidance=guidance), SCHEDULE
    return kind, engine, asked, prior(guidance)


def attention_calls(engine, kind, run):
    """How many attention layers really compute in `run`."""
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    count = 0
    plain = WanAttnProcessor.__call__

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return plain(*args, **kwargs)

    WanAttnProcessor.__call__ = counted
    try:
        return run(), count
    finally:
        WanAttnProcessor.__call__ = plain


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_saves_work_repeats_itself_and_leaves_nothing_behind(name, case):
    kind, engine, asked, prior = case

    def resume(cache):
        return engine.resume(prior[3], *asked, options=RunOptions(cache=cache)).latents.latents

    exact, all_calls = attention_calls(engine, kind, lambda: resume(None))
    cached, some_calls = attention_calls(engine, kind, lambda: resume(CACHES[name]))
    assert some_calls < all_calls
    assert not torch.equal(cached, exact)
    assert torch.equal(resume(CACHES[name]), cached)
    assert torch.equal(resume(None), exact)
    assert torch.equal(exact, prior[-1].latents)


@pytest.mark.parametrize("name", CACHES)
def test_a_run_that_broke_leaves_no_stale_cache(name, case):
    _, engine, asked, prior = case
    expected = engine.resume(prior[3], *asked, options=RunOptions(cache=CACHES[name])).latents.latents
    broken = []

    def break_off(step, steps):
        broken.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.resume(prior[3], *asked, options=RunOptions(cache=CACHES[name], on_step=break_off))
    assert broken == [4]
    assert not engine._components.pipe.transformer.is_cache_enabled
    assert torch.equal(
        engine.resume(prior[3], *asked, options=RunOptions(cache=CACHES[name])).latents.latents, expected
    )


def test_magnitude_ratios_are_those_of_the_steps_that_are_left(case, monkeypatch):
    import diffusers

    _, engine, asked, prior = case
    seen = []

    class Watched(diffusers.MagCacheConfig):
        def __post_init__(self):
            seen.append((list(self.mag_ratios), self.num_inference_steps, self.retention_ratio))
            super().__post_init__()

    monkeypatch.setattr(diffusers, "MagCacheConfig", Watched)
    ratios = [1 - index / 100 for index in range(10)]
    cache = Cache(kind="mag", options={"mag_ratios": ratios})
    engine.resume(prior[6], *asked, options=RunOptions(cache=cache))
    assert seen == [(ratios[7:], 3, 0.0)]


def test_each_expert_gets_the_ratios_of_its_own_steps(tiny, monkeypatch):
    import diffusers

    seen = []

    class Watched(diffusers.MagCacheConfig):
        def __post_init__(self):
            seen.append(list(self.mag_ratios))
            super().__post_init__()

    monkeypatch.setattr(diffusers, "MagCacheConfig", Watched)
    kind = "wan-t2v-two-experts"
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    asked = identity(kind), told(kind), SCHEDULE
    prior = list(engine.record(*asked))
    high = sum(one.timestep >= 875 for one in prior)
    ratios = [1 - index / 100 for index in range(10)]
    engine.resume(prior[1], *asked, options=RunOptions(cache=Cache(kind="mag", options={"mag_ratios": ratios})))
    assert seen == [ratios[2:high], ratios[high:]]


@pytest.mark.parametrize(
    ("kind", "cache", "message"),
    [
        (
            "wan-t2v",
            Cache(kind="taylorseer", options={"cache_identifiers": ["nothing"]}),
            "found nothing to hook on Wan",
        ),
        ("wan-t2v", CACHES["pab"], "at guidance 3 it would give the unguided call the attention of the guided one"),
        ("qwen-image", CACHES["pab"], "at guidance 3 it would give the unguided call"),
        ("wan-v2v", CACHES["mag"], "cannot be used with 'wan-v2v': .* they would mix the two; leave it out"),
        (
            "wan-vace",
            CACHES["first_block"],
            "cannot be used with 'wan-vace': its control hints .* would add them twice",
        ),
    ],
)
def test_a_cache_that_would_do_nothing_or_harm_is_refused(kind, cache, message, engine):
    schedule = SCHEDULE if kind.startswith("wan") else OWN
    one, asked = engine(kind), (identity(kind), told(kind), schedule)
    prior = list(one.record(*asked))
    with pytest.raises((UnsupportedError, RequestError), match=message):
        one.resume(prior[3], *asked, options=RunOptions(cache=cache))
    assert torch.equal(one.resume(prior[3], *asked).latents.latents, prior[-1].latents)


def test_mistakes_in_a_cache_are_named(engine):
    with pytest.raises(
        RequestError, match=r"cache kind 'tea' is not known; choose one of \['first_block', 'mag', 'pab'"
    ):
        Cache(kind="tea")
    with pytest.raises(RequestError, match="needs 'mag_ratios'"):
        Cache(kind="mag")
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), SCHEDULE)
    prior = list(one.record(*asked, options=RunOptions(keep=Keep([3]))))
    with pytest.raises(RequestError, match=r"cannot be used on WanTransformer3DModel: .*tolerance"):
        one.resume(prior[0], *asked, options=RunOptions(cache=Cache(kind="first_block", options={"tolerance": 1})))
    short = Cache(kind="mag", options={"mag_ratios": [1.0] * 4})
    with pytest.raises(
        RequestError, match="4 mag_ratios were given for a schedule of 10 steps; give one for each step"
    ):
        one.resume(prior[0], *asked, options=RunOptions(cache=short))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("wan")])
@pytest.mark.parametrize("name", CACHES)
def test_other_families_take_caches_too(kind, name, engine, prior_of):
    options = {**CACHES[name].options, **({"threshold": 5.0} if name in ("first_block", "mag") else {})}
    if name == "taylorseer":
        options["cache_interval"] = 2
    guidance = 1.0 if (kind, name) == ("qwen-image", "pab") else 3.0
    one, asked = engine(kind), (identity(kind), told(kind, guidance=guidance), own_schedule(kind))
    prior = prior_of(kind, guidance)
    cached = [
        one.resume(prior[0], *asked, options=RunOptions(cache=Cache(kind=name, options=options))).latents.latents
        for _ in range(2)
    ]
    assert torch.equal(cached[0], cached[1])
    assert not torch.equal(cached[0], prior[-1].latents)
    assert torch.equal(one.resume(prior[0], *asked).latents.latents, prior[-1].latents)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("wan-v2v", "wan-vace")])
def test_every_family_that_takes_the_cache_is_calibrated_in_its_own_bits(kind, engine):
    one, asked = engine(kind), (identity(kind), told(kind), own_schedule(kind))
    plain = one.scratch(*asked).latents
    made, ratios = one.calibrate(*asked)
    assert torch.equal(made.latents.latents, plain.latents)
    assert len(ratios) == plain.steps
    assert ratios[0] == 1.0
    assert all(ratio > 0 for ratio in ratios)
    cache = Cache(kind="mag", options={"mag_ratios": ratios, "threshold": 1e-9})
    # Nothing is as near as that, so nothing is skipped.
    if all(abs(1 - ratio) > 1e-6 for ratio in ratios[1:]):
        assert torch.equal(one.scratch(*asked, options=RunOptions(cache=cache)).latents.latents, plain.latents)


def test_a_cached_run_keeps_no_snapshots(engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), SCHEDULE)
    prior = list(one.record(*asked, options=RunOptions(keep=Keep([3]))))
    with pytest.raises(RequestError, match="a run with a cache cannot keep snapshots"):
        one.resume(prior[0], *asked, options=RunOptions(cache=CACHES["first_block"], keep=Keep("all")))
    with pytest.raises(RequestError, match="a run with a cache cannot keep snapshots"):
        one.record(*asked, options=RunOptions(cache=CACHES["first_block"]))
    with pytest.raises(RequestError, match="ratios of the cache 'mag' belong to the prior's own steps"):
        one.resume(prior[0], *asked, how=ResumeOptions(tail=2), options=RunOptions(cache=CACHES["mag"]))


class Residuals:
    """What the blocks of an expert add to their input, in each guided call: by hooks of the test's own."""

    def __init__(self, model, guidance):
        self.of, self._calls, self._each = [], 0, 2 if guidance > 1 else 1
        blocks = model.blocks if hasattr(model, "blocks") else model.transformer_blocks
        self._hooks = [
            blocks[0].register_forward_pre_hook(self._before, with_kwargs=True),
            blocks[-1].register_forward_hook(self._after),
        ]

    def _before(self, block, args, kwargs):
        self._entered = args[0] if args else kwargs["hidden_states"]

    def _after(self, block, args, output):
        if self._calls % self._each == 0:
            self.of.append((output - self._entered).detach().clone())
        self._calls += 1

    def ratios(self):
        norms = [residual.float().norm(dim=-1) for residual in self.of]
        return [1.0] + [(now / before).mean().item() for before, now in pairwise(norms)]

    def gone(self):
        for hook in self._hooks:
            hook.remove()


@pytest.mark.parametrize(("kind", "guidance"), [("wan-t2v", 3.0), ("wan-t2v", 1.0), ("wan-t2v-two-experts", 3.0)])
def test_calibration_measures_how_much_each_step_adds_and_changes_nothing(kind, guidance, tiny, capfd):
    engine = Engine(ModelSpec(source=str(tiny(kind)), device="cpu"))
    asked = identity(kind), told(kind, guidance=guidance), SCHEDULE
    plain = engine.scratch(*asked).latents.latents
    experts = [name for name in ("transformer", "transformer_2") if engine.has(name)]
    watched = [Residuals(getattr(engine._components.pipe, name), guidance) for name in experts]
    seen = []
    made, ratios = engine.calibrate(*asked, options=RunOptions(on_step=lambda step, steps: seen.append(step)))
    for residuals in watched:
        residuals.gone()
    assert torch.equal(made.latents.latents, plain)
    assert seen == list(range(10))
    # Each expert has a first step of its own.
    assert ratios == pytest.approx([ratio for residuals in watched for ratio in residuals.ratios()], rel=1e-5)
    assert len(ratios) == 10
    assert len(experts) == (2 if "two" in kind else 1)
    assert capfd.readouterr().out == ""
    assert torch.equal(engine.scratch(*asked).latents.latents, plain)
    assert engine.calibrate(*asked)[1] == ratios


def test_measured_ratios_skip_passes_and_stay_near_the_plain_run(engine):
    kind = "wan-t2v"
    one, asked = engine(kind), (identity(kind), told(kind, guidance=3.0), SCHEDULE)
    prior = list(one.record(*asked))
    _, ratios = one.calibrate(*asked)
    exact, all_calls = attention_calls(one, kind, lambda: one.resume(prior[1], *asked).latents.latents)
    cache = Cache(kind="mag", options={"mag_ratios": ratios, "threshold": 0.3})
    cached, some_calls = attention_calls(
        one, kind, lambda: one.resume(prior[1], *asked, options=RunOptions(cache=cache)).latents.latents
    )
    assert some_calls < all_calls
    assert not torch.equal(cached, exact)
    assert (cached - exact).norm() < 0.5 * exact.norm()


def test_what_cannot_be_calibrated_is_refused(engine, tiny):
    one, asked = engine("wan-v2v"), (identity("wan-v2v"), told("wan-v2v"), SCHEDULE)
    with pytest.raises(UnsupportedError, match="the cache 'mag' cannot be used with 'wan-v2v'"):
        one.calibrate(*asked)
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), SCHEDULE)
    with pytest.raises(RequestError, match="a calibrating run uses no cache and keeps no snapshots"):
        one.calibrate(*asked, options=RunOptions(cache=CACHES["first_block"]))
    with pytest.raises(RequestError, match="a calibrating run uses no cache and keeps no snapshots"):
        one.calibrate(*asked, options=RunOptions(keep=Keep("all")))
    merged = Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu", merge_guidance=True))
    with pytest.raises(RequestError, match="would not tell the two passes of merge_guidance apart"):
        merged.calibrate(*asked)


def test_a_broken_calibration_leaves_nothing_behind(engine):
    one, asked = engine("wan-t2v"), (identity("wan-t2v"), told("wan-t2v"), SCHEDULE)
    expected = one.calibrate(*asked)[1]

    def break_off(step, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.calibrate(*asked, options=RunOptions(on_step=break_off))
    assert not one._components.pipe.transformer.is_cache_enabled
    assert one.calibrate(*asked)[1] == expected
