"""Videos, masks and references that cannot be used: each told in one exact sentence, all at once, before anything runs."""

import os

import numpy as np
import pytest
from PIL import Image

from flows.prepare import prepare
from prior_engine.requests.pictures import Picture
from prior_engine.video import write_video
from tasks.errors import PlanError, SheetError

KIND = "wan-vace"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    import tiny_models

    kinds = ("wan-t2v", "wan-v2v", "wan-i2v", KIND)
    return {kind: tiny_models.build(kind, tmp_path_factory.mktemp(kind) / kind) for kind in kinds}


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "sheets"
    for name, count, size in (("nine", 9, 32), ("three", 3, 32), ("small", 9, 16), ("mixed", 9, 32)):
        (inside / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (size, size), (index * 20, 0, 0)).save(inside / name / f"{index}.png")
    Image.new("RGB", (16, 32)).save(inside / "mixed" / "4.png")
    (inside / "empty").mkdir()
    (inside / "linked").mkdir()
    for index in range(5):
        (inside / "linked" / f"{index}.png").symlink_to(tmp_path / "secret.png")
    (inside / "torn").mkdir()
    for index in range(5):
        (inside / "torn" / f"{index}.png").write_text("torn")
    for place in (tmp_path / "secret.png", inside / "one.png"):
        Image.new("RGB", (32, 32)).save(place)
    Image.new("RGB", (16, 16)).save(inside / "tiny.png")
    return inside


def problems(folder, model, columns, *cells, more=()):
    rows = [f"id{number},a,b,{cell}" for number, cell in enumerate(cells)]
    (folder / "s.csv").write_text("\n".join([f"identity,prompt,base_prompt,{columns}", *rows]) + "\n")
    size = ["model.height=32", "model.width=32", "model.frames=5", "schedule.num_inference_steps=4"]
    with pytest.raises((PlanError, SheetError)) as caught:
        prepare([f"sheet={folder / 's.csv'}", f"model={model}", *size, f"store={folder / 'store'}", *more])
    return [line.strip() for line in str(caught.value).splitlines() if "s.csv:" in line]


PLACES = "give an mp4, mov, webm or gif, or a folder or pattern of pictures, by a path relative to the sheet's folder"
REFUSED = [
    ("video", "gone.mp4", "column video: there is no video at '{folder}/gone.mp4'; " + PLACES),
    ("video", "gone", "column video: there is no video at '{folder}/gone'; " + PLACES),
    ("video", "gone/*.png", "column video: there is no video at '{folder}/gone/*.png'; " + PLACES),
    ("video", "empty", "column video: '{folder}/empty' holds no pictures; give PNG, JPEG, WebP or BMP"),
    ("video", "nine/*.jpg", "column video: '{folder}/nine/*.jpg' holds no pictures; give PNG, JPEG, WebP or BMP"),
    ("video", "one.png", "column video: 'one.png' is one picture; " + PLACES),
    ("video", "three", "column video: 'three' has 3 frames and 5 are wanted; give more of them, or ask for fewer in column frames"),
    ("video", "../secret.png/*", "column video: '../secret.png' leads to '{above}/secret.png', outside ['{folder}']; move it there or add its folder to sheet.allow_roots"),
    ("video", "linked", "column video: '{folder}/linked/0.png' leads to '{above}/secret.png', outside ['{folder}']; move it there or add its folder to sheet.allow_roots"),
    ("video", "mixed", "column video: '{folder}/mixed/4.png' has 16x32 pixels and the first picture 32x32; give all of them in one size"),
    ("video", "torn", "column video: '{folder}/torn/0.png' is not a picture that can be decoded; give a PNG, JPEG or WebP"),
    ("video", "https://example.org/a.mp4", "column video: 'https://example.org/a.mp4' is on the web, which a sheet may not reach; allow it with sheet.allow_http=true"),
    ("video,mask", "nine,small", "column mask: 'small' has 16x16 pixels and the video 32x32; give the mask in the video's size"),
    ("video,mask", "nine,tiny.png", "column mask: 'tiny.png' has 16x16 pixels and the video 32x32; give the mask in the video's size"),
    ("video,mask", "nine,three", "column mask: 'three' has 3 frames and 5 are wanted; give more of them, or ask for fewer in column frames"),
    ("mask", "nine", "a mask was given without the video that it masks; give both or neither"),
    ("references", "one.png;gone.png", "column references: there is no picture at '{folder}/gone.png'; paths are relative to the sheet's folder"),
]  # fmt: skip


def test_each_is_told_in_its_own_sentence(folder, models):
    for columns, cell, sentence in REFUSED:
        places = {"folder": os.path.realpath(folder), "above": os.path.realpath(folder.parent)}
        where = f"s.csv:2{',' if sentence.startswith('column') else ':'} "
        assert problems(folder, models[KIND], columns, cell) == [where + sentence.format(**places)]


def test_all_are_told_at_once(folder, models):
    one, two, three = problems(folder, models[KIND], "video,mask,references", "gone.mp4,gone.png,", "nine,,gone.png")
    assert [line.partition(":")[2].split(":")[0] for line in (one, two, three)] == [
        "2, column video",
        "2, column mask",
        "3, column references",
    ]


SETTINGS = [
    ("sheet.max_video_frames=8", "'nine' has 9 frames, more than sheet.max_video_frames=8"),
    ("sheet.max_all_video_pixels=999999", "with 'nine' the videos of this sheet have more pixels than sheet.max_all_video_pixels=999999; raise it or split the sheet"),
    ("sheet.max_video_pixels=1000", "'{folder}/nine/0.png' has 32x32 pixels, more than sheet.max_video_pixels=1000"),
]  # fmt: skip


def test_many_sizes_of_one_video_are_counted_together(folder, models):
    cells = [f"nine,one.png,{32 + 16 * number}" for number in range(4)]
    rest = ["sheet.max_all_video_pixels=7000000"]
    (found,) = problems(folder, models[KIND], "video,mask,width", *cells, more=rest)
    assert found.startswith("s.csv:5, column mask: with 'one.png' the videos of this sheet have more pixels than")


@pytest.mark.parametrize(("setting", "sentence"), SETTINGS)
def test_a_folder_of_pictures_is_within_bounds(folder, models, setting, sentence):
    found = problems(folder, models[KIND], "video", "nine", more=[setting])
    assert found == [f"s.csv:2, column video: {sentence.format(folder=os.path.realpath(folder))}"]


OF_FILES = [
    ("sheet.max_video_frames=8", "'film.mp4' has about 9 frames, more than sheet.max_video_frames=8"),
    ("sheet.max_video_seconds=0.5", "'film.mp4' takes 0.6 seconds, more than sheet.max_video_seconds=0.5"),
    ("sheet.max_video_pixels=1000", "'film.mp4' has 32x32 pixels, more than sheet.max_video_pixels=1000"),
    ("model.frames=13", "'film.mp4' has 9 frames and 13 are wanted; give more of them, or ask for fewer in column frames"),
]  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize(("setting", "sentence"), OF_FILES)
def test_a_video_file_is_within_bounds(folder, models, setting, sentence):
    write_video([np.zeros((32, 32, 3), np.uint8)] * 9, folder / "film.mp4")
    found = problems(folder, models[KIND], "video", "film.mp4", more=[setting])
    assert found == [f"s.csv:2, column video: {sentence}"]


@pytest.mark.process
def test_a_video_that_is_none_or_half_of_one_is_refused(folder, models):
    write_video([np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)] * 9, folder / "film.mp4")
    whole = (folder / "film.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.webm").write_text("not a video")
    # A playlist under another name would have ffmpeg read what it names.
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile {folder / 'film.mp4'}\n")
    for name in ("half.mp4", "text.webm", "list.mp4"):
        assert problems(folder, models[KIND], "video", name) == [
            f"s.csv:2, column video: '{name}' is not a video that can be decoded; give it whole, as mp4, mov, webm or gif"
        ]


@pytest.mark.parametrize(
    ("kind", "columns", "cell", "sentence"),
    [
        ("wan-t2v", "video", "gone", "the model family 'wan-t2v' takes no video; it takes a prompt only"),
        ("wan-v2v", "video,mask", "nine,one.png", "the model family 'wan-v2v' takes no mask; it takes ['video']"),
        ("wan-i2v", "image,references", "one.png,one.png", "the model family 'wan-i2v' takes no references; it takes ['image', 'last_image']"),
        ("wan-v2v", "tags", "x", "the model family 'wan-v2v' needs video; give it"),
        ("wan-v2v", "video,control_scale", "nine,0", "the model family 'wan-v2v' takes no control_scale; it takes ['video']"),
        (KIND, "image", "one.png", "the model family 'wan-vace' takes no image; it takes ['control_scale', 'mask', 'references', 'video']"),
    ],
)  # fmt: skip
def test_a_family_says_what_it_cannot_take_and_what_it_needs(folder, models, kind, columns, cell, sentence):
    assert problems(folder, models[kind], columns, cell) == [f"s.csv:2: {sentence}"]


def test_an_identity_has_one_of_each(folder, models):
    (folder / "s.csv").write_text("identity,prompt,video,references\na,x,nine,one.png\na,y,three,one.png;tiny.png\n")
    with pytest.raises(SheetError) as caught:
        prepare([f"sheet={folder / 's.csv'}", f"model={models[KIND]}", f"store={folder / 'store'}"])
    said = str(caught.value)
    assert "s.csv:3, column video: identity 'a' has two videos, 'nine' (s.csv:2) and 'three' (here)" in said
    assert "s.csv:3, column references: identity 'a' has two sets of references, " in said


def test_what_many_rows_name_is_read_and_told_once(folder, models, monkeypatch):
    opened = []
    real = Picture.open
    monkeypatch.setattr(Picture, "open", lambda source: (opened.append(source), real(source))[1])
    (folder / "s.csv").write_text("identity,prompt,video,mask,seed\na,x,nine,tiny.png,1..40\n")
    size = ["model.height=32", "model.width=32", "model.frames=5", f"store={folder / 'store'}"]
    with pytest.raises(PlanError, match="1 problem"):
        prepare([f"sheet={folder / 's.csv'}", f"model={models[KIND]}", *size])
    assert len([one for one in opened if isinstance(one, bytes)]) == 6
