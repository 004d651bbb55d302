"""Promises about the manifest."""

import hashlib
import itertools
from concurrent.futures import ThreadPoolExecutor

import pyarrow.compute as pc
import pytest

from prior_store.errors import (
    AmbiguousKeyError,
    KeyNotFoundError,
)
from prior_store.recipe import recipe_key
from prior_store.store import Store
from prior_store.testing.made import Promises, put_object, recipe_of


class ManifestPromises(Promises):
    """One row per key, never one that points at nothing."""

    # Manifest

    def test_the_row_says_what_the_commit_says(self, store: Store) -> None:
        commit = put_object(store, 1, row={"batch": "b1", "tags": ["x", "y"], "grid": {"kind": "wan", "steps": 10}})
        (row,) = store.manifest().to_pylist()
        assert row["kind"] == "priors"
        assert row["key"] == commit.key
        assert row["status"] == "done"
        assert row["tags"] == ["x", "y"]
        assert row["grid"] == '{"kind": "wan", "steps": 10}'
        assert row["bytes"] == sum(info.bytes for info in commit.files.values())
        table = "".join(f"{info.sha256}  {name}\n" for name, info in sorted(commit.files.items()))
        assert row["sha256"] == hashlib.sha256(table.encode()).hexdigest()
        assert store.files.read(row["video_uri"]) == b"video 1"
        assert row["latents_uri"].endswith("/step_0001.safetensors")

    def test_one_row_per_key_the_latest(self, store: Store) -> None:
        key = recipe_key(recipe_of(1))
        store.add_rows([{"kind": "variants", "key": key, "status": "failed", "error": "first", "attempts": 1}])
        store.add_rows([{"kind": "variants", "key": key, "status": "failed", "error": "second", "attempts": 2}])
        assert store.manifest(columns=["error"])["error"].to_pylist() == ["second"]
        assert store.manifest(pc.field("error") == "first").num_rows == 0
        assert store.known("variants") == set()
        put_object(store, 1, kind="variants")
        assert store.known("variants") == {key}
        store.add_rows([{"kind": "variants", "key": key, "status": "failed", "error": "a late loser"}])
        assert store.manifest(columns=["status"])["status"].to_pylist() == ["done"]

    def test_a_chunk_is_listed_in_one_fragment(self, store: Store) -> None:
        commits = [put_object(store, number, kind="variants", defer_row=True) for number in range(5)]
        assert store.manifest().num_rows == 0
        store.add_rows([commit.row for commit in commits])
        assert len(store.files.find("manifest/log")) == 1
        assert store.known("variants") == {commit.key for commit in commits}

    def test_no_rows_no_fragment(self, store: Store) -> None:
        store.add_rows([])
        assert store.files.find("manifest") == {}

    def test_filters_and_columns(self, store: Store) -> None:
        for number in range(6):
            put_object(store, number, row={"batch": f"b{number % 2}", "seed": number})
        found = store.manifest((pc.field("batch") == "b1") & (pc.field("seed") > 1), ["seed", "key"])
        assert found.column_names == ["seed", "key"]
        assert sorted(found["seed"].to_pylist()) == [3, 5]
        keys = [recipe_key(recipe_of(number)) for number in (2, 4, 99)]
        rows = store.rows_by_key(keys, ["seed"])
        assert {key: row["seed"] for key, row in rows.items()} == {keys[0]: 2, keys[1]: 4}

    def test_a_prefix_finds_one_key_or_says_why_not(self, store: Store) -> None:
        numbers: dict[str, int] = {}
        for second in itertools.count():
            first = numbers.setdefault(recipe_key(recipe_of(second))[:2], second)
            if first != second:
                break
        alone = next(number for number in numbers.values() if number != first)
        twice, once = (put_object(store, number).key for number in (first, alone))
        put_object(store, second)
        twice = twice[:2]
        assert store.find(once[:2]) == ("priors", once)
        assert store.find(once[:9], "priors") == ("priors", once)
        with pytest.raises(AmbiguousKeyError, match=f"{twice!r} begins .* give more digits"):
            store.find(twice)
        for wrong in ("zz", "a", "0" * 64):
            with pytest.raises(KeyNotFoundError):
                store.find(wrong)

    def test_one_store_serves_many_threads(self, store: Store) -> None:
        def work(number: int) -> int:
            for turn in range(4):
                key = recipe_key(recipe_of(100 * number + turn))
                store.add_rows([{"kind": "variants", "key": key, "status": "failed", "seed": number}])
                if number == 0:
                    store.compact(grace_s=0)
                assert key in store.rows_by_key([key], ["seed"])
            return len(store.manifest(pc.field("seed") == number, ["key"])["key"].to_pylist())

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(work, range(6))) == [4] * 6
        assert store.manifest().num_rows == 24
