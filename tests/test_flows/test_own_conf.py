"""Choices of the user's own, in a folder beside nothing of ours."""

import pytest

from flows.compose import choices, compose_settings
from tasks.errors import SettingsError


@pytest.fixture
def conf(tmp_path, monkeypatch):
    folder = tmp_path / "my conf"
    folder.mkdir()
    monkeypatch.setenv("HEADSTART_CONF", str(folder))

    def write(name, text):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return write


def test_a_model_and_a_schedule_of_ones_own_are_choices_like_all_others(conf):
    conf("model/mine.yaml", "source: /models/mine\nheight: 96\nwidth: 64\nframes: 17\n")
    conf("schedule/short.yaml", "defaults: [wan]\nnum_inference_steps: 6\n")
    settings = compose_settings(["model=mine", "schedule=short", "model.width=128"])
    assert (settings.model.source, settings.model.height, settings.model.width) == ("/models/mine", 96, 128)
    # It starts from another choice and changes what it names.
    assert (settings.schedule.num_inference_steps, settings.schedule.sigma_shift) == (6, 5.0)
    # What was measured for the demo model is not inherited.
    assert settings.model.start_sigma is None
    assert {"mine", "demo"} <= set(choices("model"))


def test_without_it_nothing_of_it_is_known(conf, monkeypatch):
    conf("model/mine.yaml", "source: /models/mine\n")
    monkeypatch.delenv("HEADSTART_CONF")
    assert "mine" not in choices("model")
    assert compose_settings(["model=mine"]).model.source == "mine"


def test_all_that_is_wrong_with_it_is_told_at_once(conf):
    conf("model/demo.yaml", "source: x\n")
    conf("modle/mine.yaml", "source: x\n")
    conf("store/secret.yaml", "url: s3://${oc.env:AWS_SECRET_ACCESS_KEY}/x\n")
    with pytest.raises(SettingsError) as refused:
        compose_settings(["model=demo"])
    said = str(refused.value)
    assert "3 problems in the settings" in said
    assert "has the name of a choice that comes with Headstart; give it another" in said
    assert "is in no group; put it into one of the folders" in said
    assert "which would be filled in from the environment" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: [\n", "the configuration cannot be composed"),
        ("sourse: x\n", "no such setting.*did you mean .model.source."),
        ("height: tall\n", "model.height: is 'tall'; must be null or a whole number above 0"),
        ("- a list\n", "model: is .*must be a mapping"),
    ],
)
def test_a_file_that_is_wrong_is_told_in_a_sentence(conf, text, said):
    conf("model/mine.yaml", text)
    with pytest.raises(SettingsError, match=said):
        compose_settings(["model=mine"])


def test_a_folder_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HEADSTART_CONF", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match="which is no folder; make it, or unset the variable"):
        compose_settings([])
