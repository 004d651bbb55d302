"""Which pipeline of the demo model a sheet gets."""

import pytest

from flows.compose import compose_settings
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
