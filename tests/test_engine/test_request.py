"""Requests that cannot be right are refused on construction; sizes are rounded up, never silently."""

import io
import subprocess
import sys
import warnings

import pytest
from engine_cases import SIZE, clip, identity, picture
from PIL import Image

import prior_engine
from prior_engine import Clip, Conditioning, Identity, Lora, ModelSpec, Picture
from prior_engine.errors import RequestError, RoundedUpWarning, UnsupportedError


def test_sizes_are_rounded_up_with_a_warning_that_names_both(engine):
    asked = Identity(prompt="a", height=33, width=48, frames=10)
    with pytest.warns(RoundedUpWarning) as caught:
        fitted = asked.fitted(engine("wan-t2v").info)
    assert (fitted.height, fitted.width, fitted.frames) == (48, 48, 13)
    told = [str(one.message) for one in caught]
    assert told == [
        "height x width 33x48 is rounded up to 48x48, the next multiple of 16 that this model makes",
        "frames 10 is rounded up to 13, the next 4n+1 that this model makes",
    ]


def test_a_size_that_fits_is_left_alone_without_a_word(engine):
    asked = Identity(prompt="a", height=480, width=832, frames=81)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asked.fitted(engine("wan-t2v").info) is asked


def test_the_vae_decides_the_multiple(engine, tmp_path):
    """TI2V-5B compresses 16 times: its sizes are multiples of 32."""
    import json
    import shutil

    from prior_engine import inspect_model

    folder = tmp_path / "5b"
    shutil.copytree(engine("wan-ti2v").info.layout.folder, folder)
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps(config | {"scale_factor_spatial": 16}))
    assert inspect_model(ModelSpec(source=str(folder), device="cpu")).size_multiple == 32
    assert engine("wan-t2v").info.size_multiple == 16
    assert engine("ltx").info.frame_multiple == 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 0}, "height=0 is not a whole number above 0"),
        ({"frames": 1.5}, "frames=1.5 is not a whole number above 0"),
        ({"seed": -1}, "seed=-1 is outside"),
        ({"last_image": Picture.open(picture(1))}, "a last image was given without a first image"),
        ({"mask": Clip.open(clip(1))}, "a mask was given without the video"),
        ({"video": Clip.open(clip(1)), "mask": Clip.open(clip(1, 5))}, "the mask has 5 frames and the video 9"),
    ],
)
def test_an_identity_that_cannot_be_right_is_refused(wrong, message):
    with pytest.raises(RequestError, match=message):
        Identity(prompt="a", **wrong)


def test_inputs_are_checked_against_what_the_model_takes(engine):
    with pytest.raises(UnsupportedError, match=r"family 'wan-t2v' takes no image; it takes a prompt only"):
        identity("wan-i2v").fitted(engine("wan-t2v").info)
    with pytest.raises(RequestError, match="family 'wan-i2v' needs image; give it"):
        identity("wan-t2v").fitted(engine("wan-i2v").info)
    with pytest.raises(RequestError, match=r"the video has 9 frames and 5 are asked for; give a video of 4n\+1 frames"):
        identity("wan-v2v", frames=5).fitted(engine("wan-v2v").info)


def test_a_picture_is_known_by_its_pixels(tmp_path):
    image = picture(1)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.bmp")
    opened = [Picture.open(source) for source in (tmp_path / "a.png", str(tmp_path / "b.bmp"), image)]
    assert len({one.pixels_sha256 for one in opened}) == 1
    assert opened[0].sha256 != opened[1].sha256
    assert opened[0].describe() == opened[1].describe() == opened[2].describe()
    assert opened[0].image().tobytes() == image.tobytes()
    assert Picture.open(opened[0]) is opened[0]
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    assert Picture.open(buffer.getvalue()).pixels_sha256 == opened[0].pixels_sha256
    assert Picture.open(picture(2)).describe() != opened[0].describe()


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    tall = Image.new("RGB", (8, 4), "red")
    tall.paste("blue", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: to be turned a quarter clockwise
    tall.save(tmp_path / "phone.png", exif=exif)
    opened = Picture.open(tmp_path / "phone.png")
    assert (opened.width, opened.height) == opened.image().size == (4, 8)
    assert opened.image().getpixel((0, 0)) == (0, 0, 255)
    with Image.open(tmp_path / "phone.png") as by_pil:
        assert Picture.open(by_pil).pixels_sha256 == opened.pixels_sha256


def test_two_pictures_of_the_same_bytes_but_another_shape_differ():
    flat = Image.new("RGB", (2, 8), "red"), Image.new("RGB", (8, 2), "red")
    assert Picture.open(flat[0]).pixels_sha256 != Picture.open(flat[1]).pixels_sha256


def test_what_is_no_picture_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"the picture .*absent\.png' cannot be read"):
        Picture.open(tmp_path / "absent.png")
    with pytest.raises(RequestError, match="the picture cannot be decoded"):
        Picture.open(b"no picture")
    with pytest.raises(RequestError, match="the video has no frames"):
        Clip.open([])


@pytest.mark.parametrize("wrong", [{"max_sequence_length": 0}])
def test_a_conditioning_that_cannot_be_right_is_refused(wrong):
    with pytest.raises(RequestError, match="max_sequence_length=0 must be at least 1"):
        Conditioning(prompt="a", **wrong)


def test_descriptions_hold_plain_values_only(engine):
    import json

    for value in (identity("wan-vace"), Conditioning(prompt="a"), engine("wan-t2v").info):
        text = json.dumps(value.describe(), allow_nan=False)
        assert "/" not in text.replace("</", "")
    pins = engine("wan-vace").pins(identity("wan-vace"), Conditioning(prompt="a"), prior_engine.Schedule())
    assert json.loads(json.dumps(pins, allow_nan=False)) == pins


def test_an_unknown_expert_is_refused(tmp_path):
    with pytest.raises(RequestError, match="expert='middle' is not known"):
        Lora.open(tmp_path / "a.safetensors", 1.0, "middle")


@pytest.mark.process
def test_requests_and_keys_need_no_torch(tiny):
    """A planner makes keys for ten thousand rows without waiting for torch."""
    code = f"""
import sys
import prior_engine as e
info = e.inspect_model(e.ModelSpec(source={str(tiny("wan-t2v"))!r}, device="cpu"))
identity = e.Identity(prompt="a", height=32, width=32, frames=9).fitted(info)
told = e.Conditioning(prompt="a  cat")
schedule = e.Schedule()
recipe = [info.describe(), identity.describe(), told.describe(), schedule.describe(), e.embedding_recipe(info, told)]
assert schedule.sigma_after(6) > 0.68
e.check_start_step(6, 10)
assert e.count_steps(schedule, info) == 10
assert not {{"torch", "diffusers", "transformers", "numpy"}} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_face_of_the_package_is_what_it_lists():
    assert sorted(prior_engine.__all__, key=str.casefold) == list(dir(prior_engine)) or set(
        prior_engine.__all__
    ) == set(dir(prior_engine))
    for name in prior_engine.__all__:
        assert getattr(prior_engine, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Prior'"):
        _ = prior_engine.Prior


assert SIZE == {"height": 32, "width": 32}
