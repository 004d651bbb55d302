"""Promises about objects, embeddings and batches."""

# ruff: noqa: PT012

import pytest
import torch

from prior_store.errors import (
    BadNameError,
    DamagedError,
    DifferentBytesError,
    ExactnessError,
    KeyNotFoundError,
    RecipeError,
    RowError,
)
from prior_store.layout import KINDS, commit_path
from prior_store.recipe import recipe_key
from prior_store.store import Store
from prior_store.testing.made import Promises, fill, latents_of, put_object, recipe_of


class ObjectPromises(Promises):
    """What was published is whole."""

    def test_what_was_published_is_read_back_bit_for_bit(self, store: Store) -> None:
        commit = put_object(store, 1)
        tensors, metadata = store.read_tensors(commit, "step_0001.safetensors")
        assert tensors["latents"].dtype == torch.bfloat16
        assert torch.equal(tensors["latents"], latents_of(2))
        assert metadata == {"step": "1"}
        assert store.read_file(("priors", commit.key), "video.mp4") == b"video 1"
        assert store.commit_of("priors", commit.key) == commit

    @pytest.mark.parametrize("kind", KINDS)
    def test_before_the_commit_there_is_nothing(self, store: Store, kind: str) -> None:
        recipe = recipe_of(1)
        key = recipe_key(recipe)
        with store.claim(kind, key) as claim:
            fill(claim, 1)
            assert store.commit_of(kind, key) is None
            assert store.manifest().num_rows == 0
            commit = claim.publish(recipe=recipe)
        assert store.commit_of(kind, key) == commit
        assert store.manifest()["key"].to_pylist() == [key]

    def test_an_exception_leaves_the_key_free(self, store: Store) -> None:
        key = recipe_key(recipe_of(1))
        with pytest.raises(ZeroDivisionError), store.claim("priors", key) as claim:
            fill(claim, 1)
            _ = 1 // 0
        assert store.commit_of("priors", key) is None
        with store.claim("priors", key, wait_s=0) as claim:
            assert claim.commit is None

    def test_committing_the_same_again_changes_nothing(self, store: Store) -> None:
        commit = put_object(store, 1)
        with store.claim("priors", commit.key) as claim:
            assert claim.commit == commit
            fill(claim, 1)
            assert claim.publish(recipe=recipe_of(1)) == commit
        assert store.commit_of("priors", commit.key) == commit
        assert store.manifest().num_rows == 1

    def test_other_bytes_under_the_same_key_are_reported(self, store: Store) -> None:
        commit = put_object(store, 1)
        with store.claim("priors", commit.key) as claim:
            fill(claim, 2)
            with pytest.raises(DifferentBytesError, match=r"other bytes in \['step_0000.safetensors'"):
                claim.publish(recipe=recipe_of(1))
        assert store.commit_of("priors", commit.key) == commit
        assert torch.equal(store.read_tensors(commit, "step_0000.safetensors")[0]["latents"], latents_of(1))

    def test_a_recipe_of_another_key_is_refused(self, store: Store) -> None:
        with store.claim("priors", recipe_key(recipe_of(1))) as claim, pytest.raises(RecipeError, match="belong"):
            claim.publish(recipe=recipe_of(2))

    def test_a_row_that_cannot_be_listed_is_not_committed(self, store: Store) -> None:
        recipe = recipe_of(1)
        with store.claim("priors", recipe_key(recipe)) as claim:
            with pytest.raises(RowError, match=r"unknown columns \['prompts'\]"):
                claim.publish(recipe=recipe, row={"prompts": "a typing mistake"})
            with pytest.raises(RowError, match="seed='many'"):
                claim.publish(recipe=recipe, row={"seed": "many"})
        assert store.commit_of("priors", recipe_key(recipe)) is None

    def test_changed_bytes_are_noticed_when_read(self, store: Store, url: str, options: dict[str, object]) -> None:
        commit = put_object(store, 1)
        path = commit.path("step_0000.safetensors")
        content = bytearray(store.files.read(path))
        content[-1] ^= 1
        store.files.put(path, bytes(content))
        with pytest.raises(DamagedError, match="sha256"):
            store.read_tensors(commit, "step_0000.safetensors")
        trusting = Store.open(url, storage_options=options, verify_hashes=False)
        trusting.read_tensors(commit, "step_0000.safetensors")
        store.files.put(path, bytes(content[:-3]))
        with pytest.raises(DamagedError, match="bytes where"):
            trusting.read_tensors(commit, "step_0000.safetensors")
        store.files.remove(path)
        with pytest.raises(DamagedError, match="gone"):
            store.read_tensors(commit, "step_0000.safetensors")

    def test_a_corrupted_commit_is_one_clear_sentence(self, store: Store) -> None:
        commit = put_object(store, 1)
        path = commit_path("priors", commit.key)
        whole = store.files.read(path)
        for broken in (whole[:100], b"", b"[]", whole.replace(b'"seed": 1', b'"seed": 2')):
            store.files.put(path, broken)
            with pytest.raises(DamagedError, match="headstart store repair"):
                store.commit_of("priors", commit.key)

    def test_precision_is_lowered_only_where_the_recipe_says_so(self, store: Store) -> None:
        exact = torch.linspace(0, 1, 7)
        recipe = recipe_of(1)
        with store.claim("priors", recipe_key(recipe)) as claim:
            claim.put_tensors("step_0000.safetensors", {"latents": exact}, storage_dtype="bfloat16")
            with pytest.raises(ExactnessError, match="promises exact bits"):
                claim.publish(recipe=recipe)
        lowered = recipe_of(1, storage_dtype="bfloat16")
        with store.claim("priors", recipe_key(lowered)) as claim:
            claim.put_tensors(
                "step_0000.safetensors", {"latents": exact, "n": torch.arange(3)}, storage_dtype="bfloat16"
            )
            commit = claim.publish(recipe=lowered)
        assert commit.files["step_0000.safetensors"].storage_dtype == "bfloat16"
        tensors, _ = store.read_tensors(commit, "step_0000.safetensors")
        assert tensors["latents"].dtype == torch.float32
        assert torch.equal(tensors["latents"], exact.to(torch.bfloat16).to(torch.float32))
        assert torch.equal(tensors["n"], torch.arange(3))

    def test_names_cannot_leave_their_folder(self, store: Store) -> None:
        with store.claim("priors", recipe_key(recipe_of(1))) as claim:
            for name in ("../up", "a/b", ".hidden", "", "COMMIT.json/.."):
                with pytest.raises(BadNameError):
                    claim.put_file(name, b"x")
        with pytest.raises(BadNameError, match="choose one of"):
            store.claim("prior", recipe_key(recipe_of(1)))

    def test_large_tensors_survive(self, store: Store) -> None:
        recipe = recipe_of(1)
        big = torch.arange(6 * 2**20, dtype=torch.int32)  # 24 MiB: more than one range
        with store.claim("priors", recipe_key(recipe)) as claim:
            claim.put_tensors("step_0000.safetensors", {"latents": big})
            commit = claim.publish(recipe=recipe)
        assert torch.equal(store.read_tensors(commit, "step_0000.safetensors")[0]["latents"], big)

    # Embeddings and batches

    def test_embeddings_come_back_and_are_checked(self, store: Store) -> None:
        key = recipe_key({"text": "a cat"})
        assert store.get_embedding(key) is None
        for _ in range(2):
            store.put_embedding(key, {"embeds": latents_of(1)}, {"length": "3"})
        found = store.get_embedding(key)
        assert found is not None
        assert torch.equal(found[0]["embeds"], latents_of(1))
        assert found[1] == {"length": "3"}
        path = f"embeddings/{key[:2]}/{key}.safetensors"
        content = bytearray(store.files.read(path))
        content[-1] ^= 1
        store.files.put(path, bytes(content))
        with pytest.raises(DamagedError, match="encoded again"):
            store.get_embedding(key)

    def test_batch_files_come_back(self, store: Store) -> None:
        store.put_batch_file("b1", "plan.json", b"{}")
        store.put_batch_file("b1", "plan.json", b'{"rows": 1}')
        store.put_batch_file("b2", "report.html", b"<p>")
        assert store.list_batches() == ["b1", "b2"]
        assert store.read_batch_file("b1", "plan.json") == b'{"rows": 1}'
        with pytest.raises(KeyNotFoundError, match=r"has the batches \['b1', 'b2'\]"):
            store.read_batch_file("b3", "plan.json")
