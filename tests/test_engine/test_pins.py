"""A variant of something else than its prior is refused, and the sentence says what differs."""

from dataclasses import replace

import pytest
from engine_cases import OWN, clip, identity, picture, told
from PIL import Image

from prior_engine import Clip, Engine, ModelSpec, Picture, ResumeOptions, Schedule
from prior_engine.errors import PinMismatchError, StartStepError

EULER = Schedule(num_inference_steps=4)


@pytest.fixture(scope="module")
def prior(engine):
    return list(engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v"), EULER))


PINNED = {
    "schedule.scheduler": "UniPCMultistepScheduler",
    "schedule.config": {"shift": 3.0},
    "schedule.grid": "diffusers",
    "schedule.num_inference_steps": 9,
    "schedule.denoising_strength": 0.5,
    "schedule.sigma_shift": 3.0,
    "schedule.sigmas": [1.0, 0.5],
    "schedule.timesteps": [1000.0, 500.0],
    "model.family": "ltx",
    "model.pipeline": "LTXPipeline",
    "model.fingerprint": "another",
    "model.dtype": "bfloat16",
    "model.quantization": "float8_e4m3fn",
    "model.attention_backend": "flash",
    "model.boundary_ratio": 0.875,
    "model.expand_timesteps": True,
    "model.vae_tiling": True,
    "identity.prompt": "another",
    "identity.negative_prompt": "another",
    "identity.seed": 8,
    "identity.height": 64,
    "identity.width": 64,
    "identity.frames": 13,
    "identity.image": {"pixels_sha256": "another"},
    "identity.last_image": {"pixels_sha256": "another"},
    "identity.video": {"pixels_sha256": "another"},
    "identity.mask": {"pixels_sha256": "another"},
    "identity.references": [{"pixels_sha256": "another"}],
}


def test_every_pinned_field_has_a_test(prior):
    assert set(PINNED) == set(prior[0].pins)


@pytest.mark.parametrize("name", sorted(PINNED))
@pytest.mark.parametrize("where", ["snapshot", "argument"])
def test_each_pin_is_refused_when_it_differs(name, where, prior, engine):
    was, now = PINNED[name], prior[0].pins[name]
    assert was != now
    changed = {**prior[0].pins, name: was}
    snapshot, pins = (replace(prior[0], pins=changed), None) if where == "snapshot" else (prior[0], changed)
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-t2v").resume(snapshot, identity("wan-t2v"), told("wan-t2v"), EULER, how=ResumeOptions(pins=pins))
    assert caught.value.differences == {name: (was, now)}
    assert f"  {name}: the prior has {was!r}, you asked for {now!r}" in str(caught.value)
    assert "1 pinned field differs from the prior; ask for what the prior has, or record another prior" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({"prompt": "a green cone"}, {"identity.prompt"}),
        ({"negative_prompt": "dull"}, {"identity.negative_prompt"}),
        ({"seed": 8}, {"identity.seed"}),
        ({"height": 64, "width": 48}, {"identity.height", "identity.width"}),
        ({"frames": 5}, {"identity.frames"}),
    ],
)
def test_another_identity_is_refused(asked, fields, prior, engine):
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-t2v").resume(prior[0], identity("wan-t2v", **asked), told("wan-t2v"), EULER)
    assert set(caught.value.differences) == fields


@pytest.mark.parametrize(
    ("schedule", "fields"),
    [
        (Schedule(num_inference_steps=5), {"schedule.num_inference_steps"}),
        (Schedule(num_inference_steps=4, sigma_shift=3.0), {"schedule.sigma_shift", "schedule.config"}),
        (Schedule(num_inference_steps=4, grid="diffusers"), {"schedule.grid"}),
        (Schedule(num_inference_steps=4, config={"stochastic_sampling": True}), {"schedule.config"}),
    ],
)
def test_another_schedule_is_refused(schedule, fields, prior, engine):
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-t2v").resume(prior[0], identity("wan-t2v"), told("wan-t2v"), schedule)
    assert set(caught.value.differences) == fields


@pytest.mark.parametrize("kind", ["wan-i2v", "wan-flf2v", "wan-vace", "wan-v2v"])
def test_other_pictures_are_refused(kind, engine):
    asked = identity(kind)
    prior = list(engine(kind).record(asked, told(kind), OWN))
    changes = {
        "image": Picture.open(picture(9)),
        "last_image": Picture.open(picture(9)),
        "video": Clip.open(clip(9)),
        "mask": Clip.open([Image.new("RGB", (32, 32), "black") for _ in range(9)]),
        "references": (Picture.open(picture(9)),),
    }
    for name, other in changes.items():
        if not getattr(asked, name):
            continue
        with pytest.raises(PinMismatchError) as caught:
            engine(kind).resume(prior[0], replace(asked, **{name: other}), told(kind), OWN)
        assert set(caught.value.differences) == {f"identity.{name}"}


def test_another_model_or_dtype_is_refused(prior, engine, tmp_path):
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-t2v", "bfloat16").resume(prior[0], identity("wan-t2v"), told("wan-t2v"), EULER)
    assert caught.value.differences == {"model.dtype": ("float32", "bfloat16")}
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-ti2v").resume(prior[0], identity("wan-t2v"), told("wan-t2v"), EULER)
    assert set(caught.value.differences) == {"model.fingerprint", "model.expand_timesteps"}


def test_a_grid_that_was_edited_is_found_out_by_the_window(prior, engine):
    """The numbers that the solver really walks are compared too, not only the request that led to them."""
    edited = replace(prior[0], sigmas=(*prior[0].sigmas[:-2], 0.123, 0.0))
    with pytest.raises(PinMismatchError, match=r"schedule\.sigmas: the prior has .*0\.123"):
        engine("wan-t2v").resume(edited, identity("wan-t2v"), told("wan-t2v"), EULER)


def test_a_changed_weight_is_another_model(tiny, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(tiny("wan-t2v"), folder)
    same = Engine(ModelSpec(source=str(folder), device="cpu")).info.fingerprint
    assert same == Engine(ModelSpec(source=str(tiny("wan-t2v")), device="cpu")).info.fingerprint
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    weights[name] = weights[name] + 1
    save_file(weights, path, metadata={"format": "pt"})
    changed = Engine(ModelSpec(source=str(folder), device="cpu")).info.fingerprint
    assert changed != same


def test_a_final_snapshot_leaves_nothing_to_run(prior, engine):
    with pytest.raises(StartStepError, match=r"start step 3 is outside 0\.\.2"):
        engine("wan-t2v").resume(prior[-1], identity("wan-t2v"), told("wan-t2v"), EULER)


@pytest.mark.parametrize(
    "changed", [{"prompt": "another"}, {"negative_prompt": "another"}, {"guidance": 1.5}, {"max_sequence_length": 64}]
)
def test_a_broken_run_goes_on_as_it_was_told_or_not_at_all(changed, prior, engine):
    (name,) = changed
    with pytest.raises(PinMismatchError) as caught:
        engine("wan-t2v").record(identity("wan-t2v"), told("wan-t2v", **changed), EULER, after=prior[1])
    assert set(caught.value.differences) == {f"conditioning.{name}"}


def test_a_snapshot_tells_what_its_run_was_told(prior, engine):
    assert prior[0].told == (told("wan-t2v").describe(),)
    asked = [told("wan-t2v", prompt) for prompt in ("a", "b")]
    made = engine("wan-t2v").resume_batch(prior[0], identity("wan-t2v"), asked, EULER, batch_size=4)
    assert [one.latents.told for one in made] == [(one.describe(),) for one in asked]
