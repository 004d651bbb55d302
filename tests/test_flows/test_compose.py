"""The one door for settings: what goes through, and what is told to whom does not fit."""

import pytest

from flows.compose import GROUPS, choices, compose_settings, known_settings, settings_from_tree
from tasks.errors import SettingsError


@pytest.mark.slow
def test_every_choice_of_every_group_composes():
    missing = {"model=custom", "store=s3"}  # these name what only the user knows
    for group in GROUPS:
        for choice in choices(group):
            if f"{group}={choice}" not in missing:
                compose_settings([f"{group}={choice}"])


def test_groups_that_take_a_value():
    settings = compose_settings(["sheet=my sheet.csv", "store=s3://bucket/a,b", "model=/models/my model"])
    assert settings.sheet.path == "my sheet.csv"
    assert settings.store.url == "s3://bucket/a,b"
    assert settings.model.source == "/models/my model"


@pytest.mark.parametrize("value", ["模糊, 低质量", 'it\'s "bad"', "a=b", "${oc.env:HOME}", "[not a list", "trailing\\"])
def test_any_text_is_a_value(value):
    assert compose_settings([f"negative_prompt={value}"]).negative_prompt == value


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sheet"], r"sheet has no value; write sheet=\.\.\."),
        (["what"], "'what' is not a setting; write key=value, for example sheet=my.csv"),
        (["model="], r"model= has no value; choose one of \[.*'custom', .*\], or say what you have: model\.source="),
        (
            ["schedule=wann"],
            r"schedule=wann: no such choice \(did you mean 'wan'\?\); choose one of \['cogvideox', 'diffusers'",
        ),
        (["schedule.num_inference_stepz=3"], r"no such setting \(did you mean 'schedule.num_inference_steps'\?\)"),
        (
            ["model.dtype=fp8"],
            r"model\.dtype: is 'fp8'; must be 'auto', 'fp32', 'bf16' or 'fp16' \(auto = bf16 on CUDA",
        ),
        (["tail=0"], "^tail: is 0; must be 'auto', 'exact' or a whole number from 1"),
        (["tail=foo"], "^tail: is 'foo'; must be 'auto', 'exact' or a whole number from 1"),
        (["model.tail=0"], "^model.tail: is 0; must be null, 'exact' or a whole number from 1"),
        (["retries=99"], "retries: is 99; must be a whole number from 0 to 20"),
        (["server.port=0"], "server.port: is 0; must be a whole number above 0 and below 65536"),
        (["model.offline=perhaps"], "model.offline: is 'perhaps'; must be true or false"),
        (["schedule.sigmas=[a]"], r"sigmas: is \['a'\]; must be null or a list in brackets, each entry a number"),
        (
            ["inflection.tails=[exact,0]"],
            r"tails: is \['exact', 0\]; must be a list in brackets, not empty, each entry",
        ),
        (["prior.keep=last"], "prior.keep: 'last' is not known; use all, from:K or a list of steps"),
        (["store=s3"], "store.url has no value here and needs one: store.url="),
        (
            ["schedule=lightx2v-4step", "schedule.num_inference_steps=3"],
            "schedule: 4 steps are listed, and num_inference_steps is 3",
        ),
        (["schedule.grid=explicit"], "schedule: grid='explicit' with .*; give sigmas or timesteps"),
        (["schedule.grid=explicit", "schedule.sigmas=[1.0]"], "schedule: 1 step is listed, and nothing could start"),
        (["schedule.sigma_shift=0"], "schedule: sigma_shift=0.0 must be above 0"),
        (["batch=../up"], r"batch: is '../up'; use letters, digits"),
        (["seed=9223372036854775808"], r"seed: is 9223372036854775808"),
        (["max_failures=-1"], r"max_failures: is -1; give a number of rows"),
        (["max_failures=some"], r"max_failures: is 'some'; give a number of rows"),
        (["store.storage_options={secret: x}"], "looks like a secret; set it in the environment"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(overrides, message):
    with pytest.raises(SettingsError, match=message):
        compose_settings(overrides)


def test_no_message_speaks_of_types():
    """Whatever is wrong, a problem is one line in our words: the value, what is needed, what the setting is for."""
    for key, field in known_settings():
        *rooms, name = key.split(".")
        tree = {name: object()}
        for room in reversed(rooms):
            tree = {room: tree}
        if field.annotation is not object and "Any" not in str(field.annotation):
            with pytest.raises(SettingsError) as refused:
                settings_from_tree(tree)
            said = str(refused.value)
            assert said.startswith(f"{key}: is <object"), said
            assert "\n" not in said
            assert field.description in said


@pytest.mark.parametrize(
    ("typed", "suggested"),
    {
        "steps": "schedule.num_inference_steps",
        "schedule.num_steps": "schedule.num_inference_steps",
        "num_inference_step": "schedule.num_inference_steps",
        "shedule": "schedule",
        "guidence": "guidance",
        "cfg_scale": "guidance",
        "startstep": "start_step",
        "start-step": "start_step",
        "negative-prompt": "negative_prompt",
        "modle": "model",
        "modle.height": "model.height",
        "model.path": "model.source",
        "store.uri": "store.url",
        "store.path": "store.url",
        "sheets": "sheet",
        "video.framerate": "video.fps",
        "fps": "video.fps",
        "width": "model.width",
        "device": "runner.devices",
        "shift": "schedule.sigma_shift",
        "sed": "seed",
        "retry": "retries",
        "guard.retry": "guard.retry_earlier",
        "keep": "prior.keep",
    }.items(),
)
def test_a_setting_that_is_not_there_is_told_with_the_one_that_was_meant(typed, suggested):
    with pytest.raises(SettingsError) as refused:
        compose_settings([f"{typed}=1"])
    assert f"{typed}: no such setting (did you mean {suggested!r}?)" in str(refused.value)


def test_nothing_is_suggested_where_nothing_is_near():
    with pytest.raises(SettingsError, match="^banana: no such setting; "):
        compose_settings(["banana=1"])


@pytest.mark.parametrize("column", ["lora", "prompt", "image"])
def test_a_column_of_the_sheet_is_told_to_be_one(column):
    with pytest.raises(SettingsError, match=rf"{column}: no such setting \(it is a column of the sheet\)"):
        compose_settings([f"{column}=x"])


def test_text_that_looks_like_a_number_is_text():
    settings = compose_settings(["batch=2026", "model.revision=12345e7", "negative_prompt=true", "video.pix_fmt=7"])
    assert (settings.batch, settings.model.revision) == ("2026", "12345e7")
    assert (settings.negative_prompt, settings.video.pix_fmt) == ("true", "7")
    assert compose_settings(["batch=null"]).batch is None


@pytest.mark.parametrize(
    ("listed", "shift"),
    [("timesteps=[1000,750,500,250]", 5.0), ("sigmas=[1.0,0.75,0.5,0.25]", 5.0), ("timesteps=[999,749,499,249]", None)],
)
def test_an_explicit_grid_has_as_many_steps_as_it_lists(listed, shift):
    told = [
        "schedule.grid=explicit",
        f"schedule.{listed}",
        f"schedule.sigma_shift={'null' if shift is None else shift}",
    ]
    settings = compose_settings(told)
    assert settings.schedule.num_inference_steps == settings.schedule.for_engine.num_inference_steps == 4
    assert settings_from_tree(settings.model_dump(mode="json")) == settings


def test_values_of_the_engine_are_kept_with_a_batch_as_people_write_them():
    tree = compose_settings(["prior.keep=[2,4]", "tail=3", "inflection.tails=[exact,2]"]).model_dump(mode="json")
    assert (tree["prior"]["keep"], tree["tail"], tree["inflection"]["tails"]) == ([2, 4], 3, ["exact", 2])
    assert compose_settings(["prior.keep=from:0"]).model_dump(mode="json")["prior"]["keep"] == "from:0"
    assert compose_settings().model_dump(mode="json")["prior"]["keep"] == "all"


def test_all_problems_are_told_at_once():
    with pytest.raises(SettingsError) as refused:
        compose_settings(["retries=-1", "model.dtype=fp8", "seed=-2"])
    assert str(refused.value).startswith("3 problems in the settings, nothing was run:")


def test_targets_are_never_instantiated():
    with pytest.raises(SettingsError, match="_target_"):
        compose_settings(["model._target_=os.system"])


def test_an_experiment_wins_over_groups_and_a_key_wins_over_it():
    assert compose_settings(["experiment=quick-look"]).schedule.num_inference_steps == 4
    assert (
        compose_settings(["experiment=quick-look", "schedule.num_inference_steps=6"]).schedule.num_inference_steps == 6
    )


def test_every_setting_says_what_it_is_for():
    assert [key for key, field in known_settings() if not field.description] == []


@pytest.mark.slow
def test_composing_in_many_threads_gives_each_its_own():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        seeds = list(pool.map(lambda seed: compose_settings([f"seed={seed}"]).seed, range(32)))
    assert seeds == list(range(32))
