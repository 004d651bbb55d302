"""What `store ls` and `store show` tell a person, and what they refuse."""

import json

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from flows.cli.main import app
from prior_store import Store
from prior_store.testing.made import put_object, recipe_of

PROMPT = "一只红色的狐狸 turns its head very slowly\nand looks into the camera " * 3


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store with a prior, a variant of it and a row that failed; the prior and the variant."""
    store = Store.open(tmp_path_factory.mktemp("filled") / "store")
    prior = put_object(store, 1, row={"identity": "fox", "prompt": "a fox", "steps_run": 10, "steps_full": 10})
    said = {
        "identity": "fox", "row_id": "turns", "prompt": PROMPT, "parent_key": prior.key, "start_step": 6, "sigma": 0.6821,
        "steps_run": 3, "steps_full": 10, "seed": 7, "width": 64, "height": 48, "frames": 9, "fps": 8.0,
        "model": "demo", "scheduler": "Euler", "grid": "wan", "extra": {"tail": 3, "start": "line", "guidance": 4.0},
    }  # fmt: skip
    variant = put_object(store, 2, "variants", row=said, pins={"identity.prompt": "a fox"}, timings={"denoise": 1.25})
    store.add_rows(
        [
            {
                "kind": "variants",
                "key": "f" * 64,
                "status": "failed",
                "identity": "owl",
                "error": "out of memory\non cuda:0",
            }
        ]
    )
    return store.url, prior, variant


@pytest.fixture
def store_verb(filled):
    """`store_verb("ls", ...)` is the exit code and the lines."""

    def run(verb, *arguments, width=None):
        environment = {"COLUMNS": str(width)} if width else {"COLUMNS": None}
        done = CliRunner().invoke(app, ["store", verb, *arguments, f"store={filled[0]}"], env=environment)
        return done.exit_code, done.output.splitlines()

    return run


def test_the_table_has_a_header_and_all_that_tells_rows_apart(store_verb, filled):
    code, (header, failed, why, variant, prior, count) = store_verb("ls")
    assert code == 0
    assert header.split() == ["kind", "status", "made", "(UTC)", "key", "start", "steps", "identity", "row", "prompt"]
    assert (failed.split()[:2], why) == (["variant", "failed"], "    why: out of memory on cuda:0")
    for column, text in {
        "key": filled[2].key[:12],
        "start": "k6",
        "steps": "3/10",
        "identity": "fox",
        "row": "turns",
    }.items():
        assert variant[header.index(column) :].startswith(text)
    assert variant.endswith(" ".join(PROMPT.split())), "into a pipe nothing is cut off"
    assert prior.startswith("prior  ")
    assert count == "3 of 3 rows"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_line_fits_the_terminal(store_verb, width):
    _, lines = store_verb("ls", width=width)
    assert max(cell_len(line) for line in lines) <= width
    assert "一只红色" in "".join(lines)


def test_more_rows_than_are_shown_are_told(store_verb):
    assert store_verb("ls", "--limit", "1")[1][-1] == "1 of 3 rows; --limit 0 lists all"


@pytest.mark.parametrize("kind", ["variant", "variants"])
def test_a_kind_may_be_one_or_many(store_verb, kind):
    assert store_verb("ls", "--kind", kind)[1][-1] == "2 of 2 rows"


@pytest.mark.parametrize(
    ("option", "value", "choices"),
    [("--kind", "movies", "['priors', 'variants']"), ("--status", "lost", "['done', 'failed', 'removed']")],
)
def test_what_no_row_can_be_is_refused(store_verb, option, value, choices):
    code, lines = store_verb("ls", option, value)
    assert code == 2
    assert f"{value!r} is not known; choose one of {choices}" in " ".join(lines)


def test_the_page_of_a_variant_says_what_it_is_and_where(store_verb, filled):
    url, prior, variant = filled
    code, lines = store_verb("show", variant.key[:12])
    page = dict(line.split(None, 1) for line in lines if line[:1].strip())
    assert code == 0
    assert page["variant"] == variant.key
    assert page["identity"] == "fox, seed 7, 64x48, 9 frames at 8 a second, base prompt 'a fox'"
    assert page["schedule"] == "Euler, grid wan, 10 steps"
    assert page["start"].endswith(f"on the straight line, after step 6 of {prior.key}, where sigma is 0.682")
    assert (page["steps"], page["seconds"]) == ("3 run, re-spaced", "denoise 1.2")
    assert page["place"].startswith(f"{url}/variants/")
    assert any(line.endswith("KiB  video.mp4") for line in lines)


def test_the_page_of_an_object_that_says_little_of_itself(store_verb, filled):
    code, lines = store_verb("show", filled[1].key)
    assert (code, lines[0]) == (0, f"prior     {filled[1].key}")
    assert not any("None" in line for line in lines)


def test_all_of_it_is_there_as_json(store_verb, filled):
    code, lines = store_verb("show", filled[2].key, "--json")
    told = json.loads("\n".join(lines))
    assert (code, told["recipe"]) == (0, {"recipe_version": 1, **recipe_of(2)})
    assert set(told["uris"]) == set(told["files"])
