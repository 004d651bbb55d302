"""Sheets that name videos, masks and references: planned, run, and known again by their pixels."""

import numpy as np
import pytest
from PIL import Image
from test_engine.engine_cases import clip, picture

import flows
from flows.prepare import prepare
from prior_engine import Clip, Conditioning, Engine, Identity, Picture
from prior_engine.video import write_video
from prior_store import Store
from tasks.planning.models.source import model_spec
from tests.test_flows.conftest import TINY

LOSSLESS = {"quality": 10, "pix_fmt": "yuv444p"}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    import tiny_models

    return {
        kind: tiny_models.build(kind, tmp_path_factory.mktemp(kind) / kind)
        for kind in ("wan-t2v", "wan-v2v", "wan-vace")
    }


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_HOME", str(tmp_path / "home"))
    for index, frame in enumerate(clip(1)):
        for folder, ending in (("frames", "png"), ("again", "bmp")):
            (tmp_path / folder).mkdir(exist_ok=True)
            frame.save(tmp_path / folder / f"{index:02}.{ending}")
    picture(3).save(tmp_path / "hat.png")
    picture(4).save(tmp_path / "coat.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "white.png")
    half = Image.new("RGB", (32, 32))
    half.paste("white", (0, 0, 16, 32))
    half.save(tmp_path / "half.png")
    return tmp_path


def told(place, model, columns, *rows, more=()):
    (place / "s.csv").write_text("\n".join([f"identity,prompt,base_prompt,{columns}", *rows]) + "\n")
    return [f"sheet={place / 's.csv'}", f"model={model}", *TINY, f"store={place / 'store'}", *more]


def rendered(settings):
    sheet, *rest = settings
    return flows.render_sheet(sheet.removeprefix("sheet="), overrides=[*rest, "server=none"])


def keys(settings):
    plan = prepare(settings).plan
    return [prior.key for prior in plan.priors], [variant.key for variant in plan.variants]


def by_hand(settings, identity):
    """The latents of the one variant of the plan, told to the engine without a sheet."""
    prepared = prepare(settings)
    (variant,) = prepared.plan.variants
    engine = Engine(model_spec(prepared.settings, prepared.settings.model.source, device="cpu"))
    asked = prepared.settings.schedule.for_engine
    first, second = (
        Conditioning(prompt=prompt, guidance=prepared.settings.model.guidance) for prompt in ("a fox", "a fox runs")
    )
    snapshot = next(one for one in engine.record(identity, first, asked) if one.step == variant.start_step)
    return variant.key, engine.resume(snapshot, identity, second, asked).latents.latents


def latents_of(place, key):
    tensors, _ = Store.open(place / "store").read_tensors(("variants", key), "latents.safetensors")
    return tensors["latents"]


STRENGTH = ["schedule.denoising_strength=0.7", "start_step=1", "tail=exact", "start=snapshot", "runner.devices=cpu"]


@pytest.mark.process
def test_a_sheet_of_video_to_video_runs_once_and_as_told_by_hand(place, tiny):
    settings = told(place, tiny["wan-v2v"], "video", "fox,a fox runs,a fox,frames", more=STRENGTH)
    first = rendered(settings)
    assert (first.done, first.failed) == (1, ())
    again = rendered(settings)
    assert (again.done, again.cached) == (0, 1)
    video = Clip.open(clip(1)[:5])
    key, latents = by_hand(settings, Identity(prompt="a fox", height=32, width=32, frames=5, video=video))
    assert latents_of(place, key).equal(latents)


@pytest.mark.process
def test_a_sheet_of_vace_runs_once_and_as_told_by_hand(place, tiny):
    cells = "frames,half.png,hat.png;coat.png,0.6"
    more = ["start_step=1", "tail=exact", "start=snapshot", "runner.devices=cpu"]
    settings = told(
        place, tiny["wan-vace"], "video,mask,references,control_scale", f"fox,a fox runs,a fox,{cells}", more=more
    )
    first = rendered(settings)
    assert (first.done, first.failed) == (1, ())
    again = rendered(settings)
    assert (again.done, again.cached) == (0, 1)
    identity = Identity(
        prompt="a fox",
        height=32,
        width=32,
        frames=5,
        video=Clip.open(clip(1)[:5]),
        mask=Clip.open([place / "half.png"] * 5),
        references=(Picture.open(picture(3)), Picture.open(picture(4))),
        control_scale=0.6,
    )
    key, latents = by_hand(settings, identity)
    assert latents_of(place, key).equal(latents)


@pytest.mark.process
@pytest.mark.parametrize("ending", ["mp4", "mov", "webm", "gif"])
def test_a_file_is_read_as_it_was_written(place, tiny, ending):
    frames = [np.asarray(frame.resize((32, 32))) for frame in clip(2)]
    write_video(frames, place / "own.mp4", **LOSSLESS)
    if ending == "gif":
        Image.fromarray(frames[0]).save(
            place / "own.gif", save_all=True, append_images=[Image.fromarray(one) for one in frames[1:]], duration=70
        )
    elif ending != "mp4":
        converted(place / "own.mp4", place / f"own.{ending}")
    # A link may lead to a file of another name.
    (place / f"own.{ending}").rename(place / "kept")
    (place / f"own.{ending}").symlink_to(place / "kept")
    settings = told(place, tiny["wan-v2v"], "video", f"fox,a fox runs,a fox,own.{ending}")
    (prior,) = prepare(settings).plan.priors
    read = prior.identity.video.images()
    assert (len(read), read[0].size) == (5, (32, 32))
    far = [np.abs(np.asarray(one).astype(int) - two).mean() for one, two in zip(read, frames, strict=False)]
    near = [np.abs(np.asarray(one).astype(int) - two).mean() for one, two in zip(read, frames[1:], strict=False)]
    assert all(own < other / 2 for own, other in zip(far, near, strict=True))


def converted(source, target):
    import subprocess

    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-loglevel", "error", "-i", source, "-crf", "4", "-b:v", "20M", target], check=True)


def test_the_same_pixels_are_the_same_key_and_other_pixels_another(place, tiny):
    def of(cell, columns="video", kind="wan-vace", row=""):
        return keys(told(place, tiny[kind], f"{columns}{row and ',frames'}", f"fox,a fox runs,a fox,{cell}{row}"))

    assert of("frames") == of("again") == of("again/0*.bmp") == of("./frames/*")
    usual = of("frames,white.png", "video,mask")
    Image.new("L", (32, 32), 255).save(place / "grey.bmp")
    assert of("frames,grey.bmp", "video,mask") == usual
    others = [
        of("frames"),
        of("frames", row=",9"),
        of("frames/*[!0].png"),
        usual,
        of("frames,half.png", "video,mask"),
        of("hat.png", "references"),
        of("hat.png;coat.png", "references"),
        of("coat.png;hat.png", "references"),
        of("frames,hat.png", "video,references"),
    ]
    assert len({prior for (prior,), _ in others}) == len(others)
    # What comes after the frames that are used is not in the key.
    Image.new("RGB", (32, 32), "blue").save(place / "frames" / "08.png")
    assert of("frames") == others[0]
    Image.new("RGB", (32, 32), "blue").save(place / "frames" / "04.png")
    assert of("frames") != others[0]


def test_how_far_the_video_is_followed_is_in_the_key_where_it_is_said(place, tiny):
    def of(columns, cells):
        settings = told(place, tiny["wan-vace"], columns, f"fox,a fox runs,a fox,{cells}")
        (prior,) = prepare(settings).plan.priors
        return prior.key, prior.recipe["identity"], prior.identity.control_scale

    plain, recipe, scale = of("video", "frames")
    assert (scale, "control_scale" in recipe) == (None, False)
    assert of("video,control_scale", "frames,")[0] == plain
    others = [of("video,control_scale", f"frames,{cell}") for cell in ("0", "0.5", "1")]
    assert [(recipe["control_scale"], scale) for _, recipe, scale in others] == [(0, 0), (0.5, 0.5), (1, 1)]
    assert len({plain, *(key for key, *_ in others)}) == 4


def test_frames_are_sized_to_what_the_row_makes(place, tiny):
    settings = told(place, tiny["wan-vace"], "video,mask,height,width,frames", "fox,a,b,frames,half.png,40,64,6")
    (prior,) = prepare(settings).plan.priors
    identity = prior.identity
    assert (identity.height, identity.width, identity.frames) == (48, 64, 9)
    assert {(frame.width, frame.height) for part in (identity.video, identity.mask) for frame in part.frames} == {
        (64, 48)
    }
    assert (len(identity.video.frames), len(identity.mask.frames)) == (9, 9)


def test_a_variant_needs_the_encoder_of_its_source_no_second_time(place, tiny):
    settings = told(place, tiny["wan-vace"], "video,references", "fox,a fox runs,a fox,frames,hat.png")
    prepared = prepare(settings)
    (prior,) = prepared.plan.priors
    engine = Engine(model_spec(prepared.settings, prepared.settings.model.source, device="cpu"))
    said, asked = Conditioning(prompt="a fox", guidance=3.0), prepared.settings.schedule.for_engine
    memo = engine._components.memo
    snapshots = list(engine.record(prior.identity, said, asked))
    # The reference, and what stays and what is made anew of the video.
    assert memo.misses == 3
    engine.resume(snapshots[1], prior.identity, said, asked)
    assert memo.misses == 3
