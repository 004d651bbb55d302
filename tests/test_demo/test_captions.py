"""Captions say identity and aspect, in two languages, and can be read back."""

import csv
from pathlib import Path

import numpy as np
import pytest

from demo.model import nets
from demo.world import captions
from demo.world.clips import ASPECTS, IDENTITIES

SHEETS = Path(captions.__file__).parents[1] / "sheets"


def test_every_caption_reads_back_as_what_it_was_made_of():
    for identity in IDENTITIES:
        for aspect in ASPECTS:
            for text in captions.all_captions(identity, aspect):
                assert captions.read_caption(text) == (identity, aspect)


def test_a_drawn_caption_is_one_of_all_captions():
    rng = np.random.default_rng(0)
    drawn = {captions.any_caption(IDENTITIES[3], "grows", rng) for _ in range(200)}
    assert drawn == set(captions.all_captions(IDENTITIES[3], "grows"))


def test_a_text_of_another_world_is_refused_by_name():
    with pytest.raises(ValueError, match="'a dog runs' is no caption"):
        captions.read_caption("a dog runs")


def test_the_tokenizer_knows_every_word_and_tells_all_captions_apart():
    tokenizer = nets.build_tokenizer(captions.every_caption())
    ids = [tuple(tokenizer(text).input_ids) for text in captions.every_caption()]
    assert len(set(ids)) == len(ids)
    assert not any(tokenizer.unk_token_id in row for row in ids)
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
    assert tokenizer.unk_token_id in tokenizer("a red dog").input_ids


def test_the_demo_sheet_speaks_of_this_world():
    with (SHEETS / "demo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    by_identity = {}
    for row in rows:
        identity, aspect = captions.read_caption(row["prompt"])
        assert aspect != "still"
        assert row["identity"] == f"{identity.colour}-{identity.shape}"
        if row["base_prompt"]:
            assert captions.read_caption(row["base_prompt"]) == (identity, "still")
        by_identity.setdefault(row["identity"], []).append(row)
    assert len(by_identity) >= 3
    assert all(len(variants) >= 6 for variants in by_identity.values())
