"""One store into another: keys and bytes kept, nothing doubled, nothing torn, the source untouched."""

import secrets
from functools import partialmethod

import pytest
import torch
from typer.testing import CliRunner

from flows.cli.main import app
from prior_store import Store, recipe_key
from prior_store.testing import latents_of, put_object, recipe_of

EMBEDDING = recipe_key({"kind": "embedding", "text": "a fox"})


def filled(url):
    store = Store.open(url)
    for number in range(3):
        put_object(store, number, row={"batch": "first", "identity": "fox", "row_id": f"r{number}"})
    recipe = {"kind": "variant", "parent": recipe_key(recipe_of(0)), "storage_dtype": "bfloat16"}
    with store.claim("variants", recipe_key(recipe)) as claim:
        claim.put_tensors("latents.safetensors", {"latents": latents_of(7)}, storage_dtype="bfloat16")
        claim.publish(recipe=recipe, pins={"steps": 4}, timings={"denoise": 1.5}, row={"identity": "fox"})
    store.put_embedding(EMBEDDING, {"embeds": torch.ones(2, 3)}, {"model": "tiny"})
    return store


def everything(store):
    """Key -> (recipe, pins, timings, digests) of all that is committed."""
    return {
        (kind, key): (commit.recipe, commit.pins, commit.timings, commit.files)
        for kind in ("priors", "variants")
        for key in store.known(kind)
        if (commit := store.commit_of(kind, key))
    }


@pytest.fixture(params=["disk to memory", "memory to disk"])
def stores(request, tmp_path):
    places = [str(tmp_path / "store"), f"memory://{secrets.token_hex(8)}/store"]
    first, second = places if request.param == "disk to memory" else reversed(places)
    return filled(first), Store.open(second)


def test_all_of_it_comes_over_and_a_second_time_nothing_does(stores):
    source, store = stores
    before = {path: source.files.read(path) for path in source.files.find("")}
    put_object(store, 1)
    done = store.import_from(source)
    assert (done.priors, done.variants, done.embeddings, done.there, done.refused) == (2, 1, 1, 1, ())
    assert everything(store) == everything(source)
    values, notes = store.get_embedding(EMBEDDING)
    assert values["embeds"].equal(torch.ones(2, 3))
    assert notes == {"model": "tiny"}
    rows = {row["key"]: row for row in store.manifest().to_pylist()}
    taken = rows[recipe_key(recipe_of(0))]
    assert (taken["identity"], taken["row_id"], taken["batch"]) == ("fox", "r0", "first")
    # Addresses are those of the copy.
    assert store.files.size(taken["latents_uri"]) is not None
    assert store.verify().ok
    assert store.import_from(source).there == 5
    assert len(store.manifest()) == 4
    assert {path: source.files.read(path) for path in source.files.find("")} == before


def test_a_damaged_object_is_refused_and_the_others_come(tmp_path):
    source = filled(tmp_path / "source")
    torn, cut = (source.commit_of("priors", recipe_key(recipe_of(number))) for number in (0, 1))
    place = source.local_path_of(torn, "step_0000.safetensors")
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    source.files.put(f"priors/{cut.key[:2]}/{cut.key}/COMMIT.json", b"{")
    store = Store.open(tmp_path / "store")
    done = store.import_from(source)
    assert (done.priors, done.variants, done.embeddings) == (1, 1, 1)
    assert done.exit_code == 1
    assert len(done.refused) == 2
    assert any("step_0000.safetensors does not have the committed sha256" in text for text in done.refused)
    assert store.known("priors") == {recipe_key(recipe_of(2))}
    assert store.verify().ok


@pytest.mark.parametrize("nth", range(0, 40, 3))
def test_broken_off_anywhere_it_goes_on_later(tmp_path, nth, monkeypatch):
    # A break between lease and work leaves a lease that has to run out; a second is enough of that.
    monkeypatch.setattr(Store, "claim", partialmethod(Store.claim, ttl_s=1))
    source, count = filled(tmp_path / "source"), 0

    def fault_point(_stage, _path):
        nonlocal count
        count += 1
        if count == nth + 1:
            raise KeyboardInterrupt

    store = Store.open(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt):
        Store.open(tmp_path / "store", fault_point=fault_point).import_from(source)
    store = Store.open(tmp_path / "store")
    store.repair()
    store.import_from(source)
    assert everything(store) == everything(source)
    assert store.verify().ok


def test_the_command_says_what_it_did(tmp_path):
    filled(tmp_path / "source")
    asked = ["store", "import", str(tmp_path / "source"), f"store={tmp_path / 'store'}"]
    first = CliRunner().invoke(app, asked)
    assert first.exit_code == 0, first.output
    assert first.output.startswith("3 priors, 1 variants and 1 embeddings copied (")
    again = CliRunner().invoke(app, [*asked, "--json"])
    assert '"there": 5' in again.output


def test_what_is_no_store_is_not_made_one(tmp_path):
    wrong = CliRunner().invoke(app, ["store", "import", str(tmp_path / "typo"), f"store={tmp_path / 'store'}"])
    assert "there is no store at" in str(wrong.exception)
    assert not (tmp_path / "typo").exists()
