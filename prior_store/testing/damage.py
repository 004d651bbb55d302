"""Promises about what is damaged: it is not counted on, it is made again, and nothing that might be good is destroyed."""

import hashlib
import json
from typing import Any

import pytest

from prior_store.errors import DamagedError, StoreVersionError
from prior_store.layout import commit_path
from prior_store.objects.commit import Commit
from prior_store.recipe import recipe_key
from prior_store.store import Store
from prior_store.testing.made import Promises, fill, latents_of, put_object, recipe_of


def cut(store: Store, commit: Commit) -> None:
    """Cut a video off."""
    path = commit.path("video.mp4")
    store.files.put(path, store.files.read(path)[:-1])


def lose(store: Store, commit: Commit) -> None:
    """Lose a snapshot."""
    store.files.remove(commit.path("step_0001.safetensors"))


def tear(store: Store, commit: Commit) -> None:
    """Tear the record."""
    path = commit_path(commit.kind, commit.key)
    store.files.put(path, store.files.read(path)[:100])


def leave(_store: Store, _commit: Commit) -> None:
    """Do no more harm."""


def flip(store: Store, commit: Commit, name: str = "step_0000.safetensors") -> None:
    """Change the last byte of a file, and no size."""
    content = bytearray(store.files.read(commit.path(name)))
    content[-1] ^= 1
    store.files.put(commit.path(name), bytes(content))


def whole_by_hand(store: Store, key: str) -> bool:
    """Read an object with json and hashlib alone."""
    folder = f"priors/{key[:2]}/{key}"
    record = json.loads(store.files.read(f"{folder}/COMMIT.json"))
    return all(
        hashlib.sha256(store.files.read(f"{folder}/{record['attempt']}/{name}")).hexdigest() == info["sha256"]
        for name, info in record["files"].items()
    )


class DamagePromises(Promises):
    """What is damaged is found, told and made again."""

    @pytest.mark.parametrize("damage", [cut, lose, tear])
    def test_what_is_damaged_is_made_again_and_left_for_gc(self, store: Store, damage: Any) -> None:
        commit, other = put_object(store, 1), put_object(store, 2)
        damage(store, commit)
        assert list(store.damaged([("priors", commit.key), ("priors", other.key)])) == [("priors", commit.key)]
        left = {path: store.files.read(path) for path in store.files.find(f"priors/{commit.key[:2]}/{commit.key}")}
        again = put_object(store, 1)
        assert again.attempt != commit.attempt
        assert {path: store.files.read(path) for path in left if "COMMIT" not in path} == {
            path: content for path, content in left.items() if "COMMIT" not in path
        }
        assert whole_by_hand(store, commit.key)
        assert store.damaged([("priors", commit.key), ("priors", other.key)]) == {}
        assert store.known("priors") == {commit.key, other.key}
        assert store.verify().ok
        gone = {item.path for item in store.gc(dry_run=False, grace_s=-60).items}
        assert {path for path in left if "COMMIT" not in path} <= gone
        assert store.verify().ok
        assert whole_by_hand(store, commit.key)

    def test_digests_are_compared_on_request(self, store: Store, url: str, options: dict[str, object]) -> None:
        commit = put_object(store, 1)
        flip(store, commit)
        assert store.damaged([("priors", commit.key)]) == {}
        assert put_object(store, 1) == commit
        careful = Store.open(url, storage_options=options, check_digests=True)
        assert "does not have the committed sha256" in careful.damaged([("priors", commit.key)])["priors", commit.key]
        assert put_object(careful, 1).attempt != commit.attempt
        assert whole_by_hand(store, commit.key)

    @pytest.mark.parametrize("damage", [leave, tear])
    def test_nothing_goes_on_from_what_was_set_aside(
        self, store: Store, url: str, options: dict[str, object], damage: Any
    ) -> None:
        commit = put_object(store, 1)
        flip(store, commit)
        damage(store, commit)
        careful = Store.open(url, storage_options=options, check_digests=True)
        with pytest.raises(RuntimeError), careful.claim("priors", commit.key) as claim:  # noqa: PT012
            assert claim.commit is None
            assert claim.leftover() == {}
            raise RuntimeError("and ends before it has made anything")
        # Whoever comes next knows nothing of the damage.
        with store.claim("priors", commit.key) as claim:
            assert claim.leftover() == {}
            fill(claim, 1)
            claim.publish(recipe=recipe_of(1))
        assert store.read_tensors(("priors", commit.key), "step_0000.safetensors")[0]["latents"].equal(latents_of(1))
        assert store.verify().ok

    def test_what_a_newer_release_committed_is_left_alone(self, store: Store) -> None:
        commit = put_object(store, 1)
        path = commit_path("priors", commit.key)
        store.files.put(path, store.files.read(path).replace(b"headstart-commit/1", b"headstart-commit/2"))
        before = {path: store.files.read(path) for path in store.files.find("")}
        for touch in (
            lambda: store.claim("priors", commit.key).__enter__(),
            lambda: store.damaged([("priors", commit.key)]),
            store.verify,
            store.repair,
            lambda: store.gc(dry_run=False, grace_s=-60),
        ):
            with pytest.raises(StoreVersionError, match=r"headstart-commit/2.* update this installation"):
                touch()
        assert {path: store.files.read(path) for path in store.files.find("")} == before

    def test_a_lighter_record_is_no_damage(self, store: Store, monkeypatch: Any) -> None:
        """A cleaner replaces the record and removes what it no longer names, just while somebody else looks."""
        commit = put_object(store, 1)
        find = store.files.find

        def cleaned_meanwhile(folder: str) -> Any:
            monkeypatch.setattr(store.files, "find", find)
            assert store.gc(dry_run=False, grace_s=-60, unused_steps=True).items
            return find(folder)

        monkeypatch.setattr(store.files, "find", cleaned_meanwhile)
        assert store.damaged([("priors", commit.key)]) == {}

    def test_a_damaged_manifest_file_is_read_past_where_that_was_asked_for(
        self, store: Store, url: str, options: dict[str, object]
    ) -> None:
        commits = [put_object(store, number, row={"parent_key": "p", "start_step": 1}) for number in range(3)]
        (path, *_rest) = store.files.find("manifest/log")
        store.files.put(path, store.files.read(path)[:-50])
        fresh = Store.open(url, storage_options=options)
        assert set(fresh.rows_by_key([commit.key for commit in commits])) == {commit.key for commit in commits[1:]}
        (said,) = fresh.passed_over
        assert path in said
        assert "headstart store repair" in said
        assert fresh.manifest(past_damage=True).num_rows == 2
        put_object(fresh, 4)  # and rows go on being written
        # Who removes what no row names has to know all rows.
        with pytest.raises(DamagedError, match="cannot be read"):
            fresh.gc(dry_run=False, grace_s=-60, unused_steps=True)
        assert fresh.repair().after.ok
        assert fresh.manifest().num_rows == 4
        assert fresh.rows_by_key([recipe_key(recipe_of(0))])
        assert fresh.passed_over == ()

    def test_a_damaged_compacted_file_is_read_past_too(
        self, store: Store, url: str, options: dict[str, object]
    ) -> None:
        commits = [put_object(store, number) for number in range(3)]
        (base,) = [store.compact(grace_s=0).written]
        put_object(store, 3)
        content = store.files.read(str(base))
        for broken in (content[:-50], content[: len(content) // 3] + bytes(64) + content[len(content) // 3 + 64 :]):
            store.files.put(str(base), broken)
            fresh = Store.open(url, storage_options=options)
            found = fresh.manifest(past_damage=True)["key"].to_pylist()
            assert recipe_key(recipe_of(3)) in found
            assert str(base) in fresh.passed_over[0]
        put_object(fresh, 4)
        assert fresh.repair().after.ok
        assert {commit.key for commit in commits} < fresh.known("priors")
        assert fresh.manifest().num_rows == 5
