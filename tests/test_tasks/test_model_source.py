"""Which pipeline of the demo model a sheet gets."""

import pytest

from flows.cli.show import show_config
from flows.compose import compose_settings
from flows.prepare import prepare
from prior_engine.models.families import family_of
from tasks.planning.models import attention
from tasks.planning.models.source import fitted, model_folder
from tasks.sheets.load import load_sheet

TEXT = "identity,prompt\nstar,a red star grows\n"
PICTURE = "identity,prompt,image\nstar,a red star grows,star.png\n"


@pytest.mark.parametrize(("text", "folder"), [(TEXT, "t2v"), (PICTURE, "i2v")])
def test_a_sheet_with_pictures_gets_the_demo_pipeline_that_starts_from_them(tmp_path, text, folder):
    (tmp_path / "my.csv").write_text(text)
    settings = compose_settings([f"sheet={tmp_path / 'my.csv'}"])
    found = fitted(settings, load_sheet(settings.sheet))
    assert model_folder(found.model).rpartition("/")[2] == folder


def test_a_model_or_pipeline_that_was_named_stays(tmp_path):
    (tmp_path / "my.csv").write_text(PICTURE)
    for override in ("model=some/folder", "model.pipeline=WanPipeline"):
        settings = compose_settings([f"sheet={tmp_path / 'my.csv'}", override])
        assert fitted(settings, load_sheet(settings.sheet)) is settings


@pytest.mark.parametrize(
    ("pipeline", "device", "generation", "installed", "best"),
    [
        ("WanPipeline", "cpu", 0, {"flash_attn"}, "native"),
        ("WanPipeline", "cuda:0", 9, {"flash_attn", "flash_attn_interface"}, "_flash_3"),
        ("WanPipeline", "cuda:0", 8, {"flash_attn", "flash_attn_interface"}, "flash"),
        ("WanImageToVideoPipeline", "cuda:0", 9, {"flash_attn"}, "flash"),
        ("WanPipeline", "cuda:0", 7, {"flash_attn"}, "native"),
        ("WanPipeline", "cuda:0", 9, set(), "native"),
        # It masks its prompts.
        ("LTXPipeline", "cuda:0", 9, {"flash_attn"}, "native"),
    ],
)
def test_the_fastest_attention_is_what_is_installed_and_fits(
    monkeypatch, pipeline, device, generation, installed, best
):
    monkeypatch.setattr(attention, "generation_of", lambda _: generation)
    monkeypatch.setattr(attention, "find_spec", lambda name: name if name in installed else None)
    assert attention.best_attention(family_of(pipeline), device) == best


def test_an_attention_that_is_left_open_is_named_in_the_recipe_as_what_it_became(tmp_path):
    (tmp_path / "my.csv").write_text(TEXT)
    more = [f"sheet={tmp_path / 'my.csv'}", f"store={tmp_path / 'store'}", "runner.devices=cpu"]
    left_open, plain = (prepare([*more, *asked]) for asked in (["accel.attention_backend=auto"], []))
    assert left_open.settings.accel.attention_backend == "native"
    assert left_open.plan.model["attention_backend"] == "native"
    assert [row.key for row in left_open.plan.variants] == [row.key for row in plain.plan.variants]


@pytest.fixture(scope="module")
def ltx(tmp_path_factory):
    import tiny_models

    return tiny_models.build("ltx", tmp_path_factory.mktemp("ltx") / "model")


@pytest.mark.parametrize(
    ("asked", "guidance", "fps"),
    [([], 3.0, 25), (["model.guidance=2", "model.fps=12"], 2.0, 12), (["guidance=4", "video.fps=8"], 4.0, 8)],
)
def test_what_is_left_to_the_model_comes_from_its_family(ltx, tmp_path, asked, guidance, fps):
    """LTX-Video is told less guidance than Wan, and shows its frames faster."""
    (tmp_path / "my.csv").write_text(TEXT)
    small = ["model.height=32", "model.width=32", "model.frames=9", "schedule=diffusers", "video.quality=5"]
    prepared = prepare([f"sheet={tmp_path / 'my.csv'}", f"store={tmp_path / 'store'}", f"model={ltx}", *small, *asked])
    assert prepared.plan.variants[0].conditioning.guidance == guidance
    assert prepared.settings.fps == fps


def test_size_and_frames_are_those_that_the_family_is_shown_at(ltx, tmp_path):
    """Nobody has to know what LTX-Video was made for, and one row may still be of another size."""
    (tmp_path / "my.csv").write_text("identity,prompt,height,width,frames\nfox,runs,,,\nowl,sits,96,64,9\n")
    lines = [f"sheet={tmp_path / 'my.csv'}", f"store={tmp_path / 'store'}", f"model={ltx}", "schedule=diffusers"]
    sizes = [
        (row.prior.identity.height, row.prior.identity.width, row.prior.identity.frames)
        for row in prepare(lines).plan.variants
    ]
    assert sizes == [(480, 704, 161), (96, 64, 9)]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], ["crowded, dim", "its own"]),
        (["negative_prompt=blurred"], ["blurred", "its own"]),
        (["negative_prompt=''"], ["", "its own"]),
    ],
)
def test_what_the_makers_steer_away_from_is_told_to_rows_that_say_nothing(tmp_path, more, told):
    (tmp_path / "my.csv").write_text("identity,prompt,negative_prompt\nstar,a red star grows,\nstar,it falls,its own\n")
    lines = [f"sheet={tmp_path / 'my.csv'}", f"store={tmp_path / 'store'}", "model.negative_prompt='crowded, dim'"]
    plan = prepare([*lines, *more]).plan
    assert [row.conditioning.negative_prompt for row in plan.variants] == told
    assert plan.priors[0].identity.negative_prompt == told[0]


def test_wan_presets_steer_away_from_what_its_makers_do():
    for name in ("wan21-t2v-1.3b", "wan21-i2v-14b-480p", "wan22-ti2v-5b"):
        assert compose_settings([f"model={name}"]).negative.startswith("色调艳丽，过曝")
    assert compose_settings(["model=wan21-flf2v-14b-720p"]).negative.startswith("镜头晃动，色调艳丽")
    # Without guidance nothing is steered away from.
    assert compose_settings(["model=fastwan21-t2v-1.3b"]).negative == ""


def test_the_settings_that_are_shown_are_those_that_are_used_and_say_whose_they_are(ltx):
    shown = show_config([f"model={ltx}", "model.fps=12"])
    assert "\n  guidance: 3.0  # as its family has it\n" in shown
    assert "\n  frames: 161  # as its family has it\n" in shown
    assert "\n  fps: 12\n" in shown
    # A model that is on no disk yet says so when it is run.
    assert "\n  guidance: null\n" in show_config(["model=custom", "model.source=/no/such/folder"])
