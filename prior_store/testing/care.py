"""Promises about verify, repair, gc and compaction."""

# ruff: noqa: PT012
import time
from typing import Any

import pyarrow.compute as pc
import pytest

from prior_store.care.gc import Retention
from prior_store.errors import (
    ClaimLostError,
    DamagedError,
)
from prior_store.layout import KINDS, STORE, commit_path
from prior_store.recipe import recipe_key
from prior_store.store import Store
from prior_store.testing.made import Promises, fill, latents_of, put_object, recipe_of


class CarePromises(Promises):
    """What is broken is found and mended, what is cleaned up was not needed."""

    # Care

    def test_a_whole_store_verifies(self, store: Store) -> None:
        for number in range(3):
            put_object(store, number, kind=KINDS[number % 2])
        store.put_embedding(recipe_key({"text": "a"}), {"embeds": latents_of(1)})
        seen: list[tuple[int, int]] = []
        report = store.verify(progress=lambda done, total: seen.append((done, total)))
        assert report.ok
        assert (report.objects, report.files, report.rows, report.embeddings) == (3, 9, 3, 1)
        assert seen[-1] == (9, 9)
        assert report.exit_code == 0

    def test_compaction_changes_no_answer(self, store: Store) -> None:
        for number in range(5):
            put_object(store, number, row={"seed": number})
        store.add_rows([{"kind": "variants", "key": recipe_key(recipe_of(9)), "status": "failed", "error": "x"}])
        before = store.manifest().sort_by("key")
        done = store.compact(grace_s=0)
        assert (done.rows, len(done.absorbed), len(done.removed)) == (6, 6, 6)
        assert store.manifest().sort_by("key").equals(before)
        put_object(store, 6, row={"seed": 6})
        assert sorted(store.manifest(pc.field("seed") >= 4, ["seed"])["seed"].to_pylist()) == [4, 6]
        put_object(store, 9, kind="variants")
        assert store.manifest(pc.field("status") == "failed").num_rows == 0
        again = store.compact(grace_s=3600)
        assert again.removed == ()
        assert (again.rows, len(store.manifest())) == (7, 7)
        assert store.compact(grace_s=3600).written is None
        assert store.compact(grace_s=0).removed == tuple(sorted(again.absorbed, key=lambda p: ("/base/" in p, p)))
        assert store.verify().ok

    def test_a_lost_row_is_rebuilt(self, store: Store) -> None:
        commit = put_object(store, 1, row={"batch": "b1", "seed": 5})
        before = store.manifest().drop(["recorded_at"])
        store.files.remove_many(store.files.find("manifest"))
        report = store.verify()
        assert [(problem.what, problem.key) for problem in report.problems] == [("object without row", commit.key)]
        assert report.exit_code == 1
        fixed = store.repair()
        assert fixed.after.ok
        assert store.manifest().drop(["recorded_at"]).equals(before)

    def test_what_is_torn_goes_into_quarantine_and_can_be_made_again(self, store: Store) -> None:
        commits = [put_object(store, number) for number in range(4)]
        flipped = bytearray(store.files.read(commits[0].path("video.mp4")))
        flipped[0] ^= 1
        store.files.put(commits[0].path("video.mp4"), bytes(flipped))
        store.files.put(commit_path("priors", commits[1].key), b"{")
        store.files.remove(commits[2].path("step_0001.safetensors"))
        assert len(store.verify(quick=True).problems) == 2
        report = store.verify()
        assert {(problem.key, problem.what) for problem in report.problems} == {
            (commits[0].key, "wrong bytes"),
            (commits[1].key, "torn commit"),
            (commits[2].key, "missing file"),
        }
        before = len(store.files.find(""))
        assert store.repair().after.ok
        assert store.known("priors") == {commits[3].key}
        aside = store.files.find("quarantine")
        assert len(aside) == 11
        assert len(store.files.find("")) >= before  # nothing was deleted
        assert put_object(store, 0).key == commits[0].key
        assert store.verify().ok

    def test_a_truncated_fragment_is_told_and_rebuilt(self, store: Store, url: str, options: dict[str, object]) -> None:
        commit = put_object(store, 1)
        put_object(store, 2)
        (path, *_rest) = store.files.find("manifest/log")
        store.files.put(path, store.files.read(path)[:-50])
        fresh = Store.open(url, storage_options=options)
        with pytest.raises(DamagedError, match=f"manifest file {path} cannot be read .*headstart store repair"):
            fresh.manifest()
        fixed = fresh.repair()
        assert fixed.before.problems[0].what == "damaged manifest file"
        assert fixed.after.ok
        assert fresh.manifest().num_rows == 2
        assert commit.key in fresh.known("priors")

    def test_a_row_without_object_is_found_and_taken_out(self, store: Store) -> None:
        commit = put_object(store, 1)
        store.files.remove(commit_path("priors", commit.key))
        assert [problem.what for problem in store.verify().problems] == ["row without object"]
        assert store.repair().after.ok
        assert store.known("priors") == set()

    def test_foreign_files_inside_are_left_alone(self, store: Store) -> None:
        put_object(store, 1)
        store.files.put("priors/notes.txt", b"mine")
        assert store.verify().foreign == ("priors/notes.txt",)
        store.gc(dry_run=False, grace_s=-60)
        assert store.files.read("priors/notes.txt") == b"mine"

    def test_gc_only_tells_unless_it_is_told(self, store: Store) -> None:
        commit = put_object(store, 1)
        key = recipe_key(recipe_of(2))
        with pytest.raises(RuntimeError), store.claim("priors", key) as claim:
            fill(claim, 2)
            raise RuntimeError("gave up")
        assert store.gc().items == ()  # younger than the grace time
        before = store.files.find("")
        told = store.gc(grace_s=-60)
        assert {item.why for item in told.items} == {"abandoned attempt"}
        assert told.bytes > 0
        assert store.files.find("") == before
        assert store.gc(dry_run=False, grace_s=-60).items == told.items
        assert store.commit_of("priors", commit.key) == commit
        assert store.verify().ok
        put_object(store, 2)
        assert store.verify().ok

    def test_gc_spares_a_live_claim(self, store: Store) -> None:
        recipe = recipe_of(1)
        with store.claim("priors", recipe_key(recipe), ttl_s=60) as claim:
            fill(claim, 1)
            assert store.gc(dry_run=False, grace_s=0).items == ()
            claim.publish(recipe=recipe)
        assert store.verify().ok

    def test_gc_fences_the_writer_whose_files_it_takes(self, store: Store) -> None:
        recipe = recipe_of(1)
        with store.claim("priors", recipe_key(recipe), ttl_s=1) as claim:
            fill(claim, 1)
            assert store.gc(dry_run=False, grace_s=-60, clock=lambda: time.time() + 3600).items
            with pytest.raises(ClaimLostError, match="taken over"):
                claim.publish(recipe=recipe)
        assert store.verify().ok

    def test_retention_by_batch_tag_and_age(self, store: Store) -> None:
        def labels(number: int) -> dict[str, Any]:
            return {"batch": f"b{number}", "tags": ["t", f"t{number}"]}

        commits = [put_object(store, number, row=labels(number)) for number in range(4)]
        options: dict[str, Any] = {"dry_run": False, "grace_s": -60}
        assert store.gc(**options, retention=Retention()).items == ()
        assert store.gc(**options, retention=Retention(batches=["b0"], tags=["t1"])).items == ()
        assert store.gc(**options, retention=Retention(older_than_s=3600)).items == ()
        assert store.gc(dry_run=False, retention=Retention(batches=["b0"])).items == ()
        assert len(store.gc(**options, retention=Retention(batches=["b0"])).items) == 4
        assert len(store.gc(**options, retention=Retention(tags=["t1"])).items) == 4
        assert store.known("priors") == {commits[2].key, commits[3].key}
        assert store.verify().ok
        store.compact(grace_s=0)
        assert store.verify().ok
        assert put_object(store, 0).key == commits[0].key
        assert store.known("priors") == {commits[number].key for number in (0, 2, 3)}
        assert store.verify().ok

    def test_snapshots_never_used_go_first(self, store: Store) -> None:
        recipe = recipe_of(1)
        with store.claim("priors", recipe_key(recipe)) as claim:
            fill(claim, 1, steps=5)
            prior = claim.publish(recipe=recipe, row={"batch": "b"})
        put_object(store, 2, kind="variants", row={"parent_key": prior.key, "start_step": 2})
        gone = store.gc(dry_run=False, grace_s=-60, unused_steps=True)
        assert [item.path for item in gone.items] == [prior.path(f"step_000{step}.safetensors") for step in (0, 1, 3)]
        lighter = store.commit_of("priors", prior.key)
        assert lighter is not None
        assert list(lighter.steps) == [2, 4]
        assert store.rows_by_key([prior.key])[prior.key]["bytes"] == lighter.total_bytes
        assert store.verify().ok

    def test_du_adds_up(self, store: Store) -> None:
        commits = [put_object(store, number, row={"batch": "b1"}) for number in range(2)]
        found = store.du()
        assert found["batches"] == {"b1": {"objects": 2, "bytes": sum(commit.total_bytes for commit in commits)}}
        listed = [entry.bytes for path, entry in store.files.find("").items() if path != STORE]
        assert found["bytes"] == sum(listed)
