"""The page of families says what the code does."""

from pathlib import Path

import pytest

from prior_engine.models.families import FAMILIES, REFUSED_PIPELINES, REFUSED_SOLVERS
from prior_engine.models.reference import render

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "families.md"


def test_the_page_is_the_table_in_code():
    assert PAGE.read_text() == render(), (
        "write it anew: python -m prior_engine.models.reference > docs/reference/families.md"
    )


@pytest.mark.parametrize(
    "name", [*(one.pipeline for one in FAMILIES), *(one.name for one in REFUSED_PIPELINES + REFUSED_SOLVERS)]
)
def test_every_name_in_the_table_exists_in_diffusers(name):
    import diffusers

    assert hasattr(diffusers, name)
