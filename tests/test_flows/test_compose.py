"""The one door for settings: what goes through, and what is told to whom does not fit."""

import pytest

from flows.compose import GROUPS, choices, compose_settings, known_settings
from tasks.errors import SettingsError


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
        (["sheet"], "'sheet' is no override; write key=value"),
        (["schedule=wann"], r"schedule=wann: no such choice \(did you mean 'wan'\?\); choose one of \['diffusers'"),
        (["schedule.num_inference_stepz=3"], r"no such setting \(did you mean 'schedule.num_inference_steps'\?\)"),
        (["model.dtype=fp8"], "model.dtype: input should be 'auto', 'fp32', 'bf16' or 'fp16', seen 'fp8'"),
        (["prior.keep=last"], "prior.keep: 'last' is not known; use all, from:K or a list of steps"),
        (["store=s3"], "store.url has no value here and needs one: store.url="),
        (["schedule=lightx2v-4step", "schedule.num_inference_steps=3"], "schedule.sigmas has 4 values"),
        (["schedule.grid=explicit"], "needs schedule.sigmas"),
        (["batch=../up"], r"batch: is '../up'; use letters, digits"),
        (["max_failures=some"], r"max_failures: is 'some'; give a number of rows"),
        (["store.storage_options={secret: x}"], "looks like a secret; give it by environment"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(overrides, message):
    with pytest.raises(SettingsError, match=message):
        compose_settings(overrides)


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


def test_composing_in_many_threads_gives_each_its_own():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        seeds = list(pool.map(lambda seed: compose_settings([f"seed={seed}"]).seed, range(32)))
    assert seeds == list(range(32))
