"""Every solver, after every step, in both dtypes: resuming is never having stopped."""

import pytest
import torch
from engine_cases import BOTH_DTYPES, OWN, identity, told

from prior_engine import Keep, ResumeOptions, RunOptions, Schedule, Snapshot
from prior_engine.errors import RequestError, UnsupportedError
from prior_engine.requests.grids import shifted, wan_grid
from prior_engine.runs.solvers.solver import levels_after

# diffusers hands torch tensors to numpy in a way that numpy 2 will stop to take; nothing that we could change.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

N = 6


def flow(name, grid="wan", **config):
    return Schedule(scheduler=name, grid=grid, num_inference_steps=N, config=config)


SOLVERS = {
    "euler": flow("FlowMatchEulerDiscreteScheduler"),
    "euler-stochastic": flow("FlowMatchEulerDiscreteScheduler", stochastic_sampling=True),
    "unipc-2": flow("UniPCMultistepScheduler", solver_order=2),
    "unipc-3": flow("UniPCMultistepScheduler", solver_order=3),
    "unipc-2-own-grid": flow("UniPCMultistepScheduler", grid="diffusers", solver_order=2),
    "dpm-2m": flow("DPMSolverMultistepScheduler", solver_order=2),
    "dpm-3m": flow("DPMSolverMultistepScheduler", solver_order=3),
    "dpm-sde": flow("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"),
    "deis": flow("DEISMultistepScheduler", grid="diffusers"),
    "heun": flow("FlowMatchHeunDiscreteScheduler"),
    "heun-own-grid": flow("FlowMatchHeunDiscreteScheduler", grid="diffusers"),
    "lcm": flow("FlowMatchLCMScheduler"),
}
STOCHASTIC = {"euler-stochastic", "dpm-sde", "lcm"}
MULTISTEP = {"unipc-2", "unipc-3", "dpm-2m", "dpm-3m", "deis", "heun"}


@pytest.fixture(scope="module")
def priors(engine):
    made = {}

    def prior(name, dtype):
        if (name, dtype) not in made:
            run = engine("wan-t2v", dtype).record(identity("wan-t2v"), told("wan-t2v"), SOLVERS[name])
            made[name, dtype] = list(run)
        return made[name, dtype]

    return prior


@pytest.mark.parametrize("name", SOLVERS)
def test_the_noise_left_after_each_step_is_known_before_a_run(name, priors, engine):
    told_before = levels_after(SOLVERS[name], engine("wan-t2v", "float32").info)
    assert told_before == tuple(snapshot.sigma for snapshot in priors(name, "float32"))


@BOTH_DTYPES
@pytest.mark.parametrize("name", SOLVERS)
def test_resuming_after_every_step_gives_the_same_bits(name, dtype, priors, engine):
    prior = priors(name, dtype)
    assert len(prior) == (2 * N - 1 if "heun" in name else N)
    for snapshot in prior[:-1]:
        stored = Snapshot.from_parts(snapshot.tensors(), snapshot.metadata())
        variant = engine("wan-t2v", dtype).resume(
            stored, identity("wan-t2v"), told("wan-t2v"), SOLVERS[name], options=RunOptions(keep=Keep("all"))
        )
        for again in variant.kept:
            assert torch.equal(again.latents, prior[again.step].latents), f"from step {snapshot.step} at {again.step}"
        assert torch.equal(variant.latents.latents, prior[-1].latents), f"from step {snapshot.step}"


@pytest.mark.parametrize("name", sorted(MULTISTEP))
def test_history_is_what_makes_multistep_solvers_exact(name, priors, engine):
    prior = priors(name, "float32")
    step = 3
    variant = engine("wan-t2v", "float32").resume(
        prior[step], identity("wan-t2v"), told("wan-t2v"), SOLVERS[name], how=ResumeOptions(history="fresh")
    )
    same = torch.equal(variant.latents.latents, prior[-1].latents)
    # Step 3 of Heun ends a pair of evaluations: there is no history between pairs.
    assert same == (name == "heun")
    assert variant.history == "fresh"


@pytest.mark.parametrize("name", sorted(STOCHASTIC))
def test_random_state_is_what_makes_stochastic_solvers_exact(name, priors, engine):
    from dataclasses import replace

    prior = priors(name, "float32")
    without = replace(prior[2], generators=())
    variant = engine("wan-t2v", "float32").resume(without, identity("wan-t2v"), told("wan-t2v"), SOLVERS[name])
    assert not torch.equal(variant.latents.latents, prior[-1].latents)


def test_state_of_another_step_gives_other_bits(priors, engine):
    from dataclasses import replace

    prior = priors("unipc-2", "float32")
    mixed = replace(prior[3], latents=prior[2].latents)
    variant = engine("wan-t2v", "float32").resume(mixed, identity("wan-t2v"), told("wan-t2v"), SOLVERS["unipc-2"])
    assert not torch.equal(variant.latents.latents, prior[-1].latents)


def test_the_seed_alone_decides_the_noise(engine):
    runs = [
        list(engine("wan-t2v").record(identity("wan-t2v", seed=seed), told("wan-t2v"), SOLVERS["euler-stochastic"]))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0][-1].latents, runs[1][-1].latents)
    assert not torch.equal(runs[0][-1].latents, runs[2][-1].latents)


def test_latents_keep_the_dtype_that_the_solver_gives_them(priors):
    assert {snapshot.latents.dtype for snapshot in priors("euler", "bfloat16")} == {torch.bfloat16}
    assert {snapshot.latents.dtype for snapshot in priors("unipc-2", "bfloat16")} == {torch.float32}


def test_a_heun_step_is_not_started_afresh_in_its_middle(priors, engine):
    prior = priors("heun", "float32")
    with pytest.raises(RequestError, match=r"between the two evaluations of a Heun step.*start from step 3"):
        engine("wan-t2v", "float32").resume(
            prior[2], identity("wan-t2v"), told("wan-t2v"), SOLVERS["heun"], how=ResumeOptions(history="fresh")
        )


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (Schedule(scheduler="CogVideoXDPMScheduler", sigma_shift=None), "local variable of the pipeline"),
        (Schedule(scheduler="DEISMultistepScheduler"), "never walks to zero by a given grid; use grid='diffusers'"),
        (Schedule(scheduler="DDIMScheduler", sigma_shift=None), "does not walk sigmas; use grid='diffusers'"),
    ],
)
def test_what_cannot_be_exact_is_refused_with_the_reason(schedule, message, engine):
    with pytest.raises(UnsupportedError, match=message):
        engine("wan-t2v").pins(identity("wan-t2v"), told("wan-t2v"), schedule)


def test_a_family_that_gives_its_own_sigmas_refuses_solvers_that_take_none(engine):
    schedule = Schedule(scheduler="FlowMatchHeunDiscreteScheduler")
    with pytest.raises(UnsupportedError, match=r"gives its own sigmas to the solver.*takes none"):
        engine("ltx").pins(identity("ltx"), told("ltx"), schedule)


def test_mistakes_in_the_solver_are_named(engine):
    with pytest.raises(RequestError, match="diffusers has no scheduler 'Eular'"):
        engine("wan-t2v").pins(identity("wan-t2v"), told("wan-t2v"), Schedule(scheduler="Eular"))
    with pytest.raises(RequestError, match=r"has no setting \['order'\]"):
        engine("wan-t2v").pins(identity("wan-t2v"), told("wan-t2v"), Schedule(config={"order": 2}))
    with pytest.raises(RequestError, match=r"sigma_shift=5.0 has no effect on the solver 'CogVideoXDDIMScheduler'"):
        engine("cogvideox").pins(identity("cogvideox"), told("cogvideox"), Schedule(scheduler=None, grid="diffusers"))
    with pytest.raises(RequestError, match="diffusers has no scheduler 'WanTransformer3DModel'"):
        engine("wan-t2v").pins(identity("wan-t2v"), told("wan-t2v"), Schedule(scheduler="WanTransformer3DModel"))
    wrong = Schedule(scheduler="DPMSolverMultistepScheduler", config={"algorithm_type": "best"})
    with pytest.raises(
        RequestError, match="'DPMSolverMultistepScheduler' refuses its settings {'algorithm_type': 'best'}"
    ):
        engine("wan-t2v").pins(identity("wan-t2v"), told("wan-t2v"), wrong)


def test_explicit_timesteps_do_not_take_multistep_solvers_to_infinity(engine):
    schedule = Schedule(
        scheduler="UniPCMultistepScheduler",
        grid="explicit",
        sigmas=(1.0, 0.75, 0.5),
        timesteps=(999, 750, 500),
        sigma_shift=1.0,
    )
    made = engine("wan-t2v").scratch(identity("wan-t2v"), told("wan-t2v"), schedule)
    assert list(made.latents.timesteps) == [999, 750, 500]


@pytest.mark.parametrize("kind", ["flux", "ltx", "qwen-image"])
def test_a_given_grid_is_not_shifted_by_the_size(kind, engine):
    one = engine(kind)
    for schedule in (Schedule(num_inference_steps=4), Schedule(num_inference_steps=4, sigma_shift=None)):
        prior = list(one.record(identity(kind), told(kind), schedule))
        shift = prior[0].shift
        assert prior[-1].sigmas == pytest.approx([*wan_grid(4, shift), 0.0], abs=1e-6)
        variant = one.resume(prior[1], identity(kind), told(kind), schedule)
        assert torch.equal(variant.latents.latents, prior[-1].latents)


def test_the_shift_by_size_is_the_same_law(engine):
    """Where the pipeline shifts by the picture's size, the snapshot tells the shift that it amounts to."""
    first = next(iter(engine("flux").record(identity("flux"), told("flux"), OWN)))
    own = [1 - index * (1 - 1 / 6) / 5 for index in range(6)]
    assert first.shift > 1
    assert list(first.sigmas[:-1]) == pytest.approx([shifted(sigma, first.shift) for sigma in own], abs=1e-5)
