"""Keys: the same recipe, the same key, on any machine, in any process, in every release."""

import enum
import json
import pathlib
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prior_store.errors import RecipeError
from prior_store.recipe import NOT_DECIDING, canonical_json, recipe_key

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden" / "recipes.json").read_text())

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = text.filter(lambda name: name.lower() not in NOT_DECIDING and name != "recipe_version")
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text.map("a {}".format),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
recipes = st.dictionaries(names, values, max_size=5)


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden["why"] for golden in GOLDEN])
def test_keys_of_earlier_releases_hold(golden):
    assert canonical_json(golden["recipe"]) == golden["text"]
    assert recipe_key(golden["recipe"]) == golden["key"]


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
@pytest.mark.process
def test_keys_hold_in_other_processes_with_other_hash_seeds(hash_seed):
    script = (
        "import json, sys; from prior_store import recipe_key; "
        "print(json.dumps([recipe_key(golden['recipe']) for golden in json.load(sys.stdin)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(GOLDEN), capture_output=True, text=True, check=True,
        cwd=pathlib.Path(__file__).parents[2], env={"PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    assert json.loads(answer.stdout) == [golden["key"] for golden in GOLDEN]


@given(recipes)
def test_the_canonical_text_is_a_fixed_point(recipe):
    text = canonical_json(recipe)
    assert canonical_json(json.loads(text)) == text
    assert recipe_key(json.loads(text)) == recipe_key(recipe)


@given(recipes, st.randoms())
def test_the_order_of_fields_means_nothing(recipe, random):
    items = list(recipe.items())
    random.shuffle(items)
    assert recipe_key(dict(items)) == recipe_key(recipe)


@given(recipes, names, values)
def test_another_value_is_another_key(recipe, name, value):
    one, other = {**recipe, name: value}, {**recipe, name: [value, "more"]}
    assert recipe_key(one) != recipe_key(other)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_comes_back_as_the_same_number(value):
    assert json.loads(canonical_json({"x": value}))["x"] == value


def test_numbers_that_are_equal_are_one():
    assert recipe_key({"x": 5}) == recipe_key({"x": 5.0})
    assert recipe_key({"x": 0.0}) == recipe_key({"x": -0.0})
    assert recipe_key({"x": 0.8}) == recipe_key({"x": 0.80})
    assert recipe_key({"x": 1}) != recipe_key({"x": True})
    assert recipe_key({"x": 0.1 + 0.2}) != recipe_key({"x": 0.3})
    assert recipe_key({"x": (1, 2)}) == recipe_key({"x": [1, 2]})


def test_text_is_kept_code_point_by_code_point():
    composed, taken_apart = unicodedata.normalize("NFC", "Ångström"), unicodedata.normalize("NFD", "Ångström")
    assert recipe_key({"prompt": composed}) != recipe_key({"prompt": taken_apart})


class Colour(enum.StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        float("nan"), float("inf"), np.float64(0.5), np.int64(1), np.str_("a"), np.zeros(2), b"pixels", {1, 2}, object(),
        pathlib.Path("cat.png"), Colour.RED, {1: "a"}, "\ud800", "/home/me/cat.png", "~/cat.png", "./cat.png", "C:\\cat.png",
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)  # fmt: skip
def test_what_has_no_stable_form_is_refused(value):
    for recipe in ({"x": value}, {"deep": [{"x": value}]}):
        with pytest.raises(RecipeError, match=r"recipe field '(x|deep)"):
            recipe_key(recipe)


def test_a_picture_is_refused_and_told_how():
    from PIL import Image

    with pytest.raises(RecipeError, match=r"recipe field 'image' is a PIL.Image.Image; .*sha256 of its content"):
        recipe_key({"image": Image.new("RGB", (2, 2))})


@pytest.mark.parametrize("name", sorted(NOT_DECIDING))
def test_what_does_not_decide_the_result_never_enters(name):
    for recipe in ({name: 1}, {"model": {"deep": [{name.upper(): 1}]}}):
        with pytest.raises(RecipeError, match="does not decide a result"):
            recipe_key(recipe)


def test_a_prompt_may_look_like_a_path():
    assert recipe_key({"prompt": "/imagine"}) != recipe_key({"prompt": "imagine"})


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, True, None])
def test_the_version_is_a_whole_number(version):
    with pytest.raises(RecipeError, match="recipe_version"):
        recipe_key({"recipe_version": version})


def test_the_version_is_inside():
    assert json.loads(canonical_json({})) == {"recipe_version": 1}
    assert recipe_key({}) != recipe_key({"recipe_version": 2})
