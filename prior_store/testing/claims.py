"""Promises about claims."""

# ruff: noqa: PT012
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from prior_store.errors import ClaimCancelledError, ClaimTimeoutError, DamagedError
from prior_store.layout import COMMIT, claim_path, commit_path
from prior_store.objects.commit import Commit
from prior_store.recipe import recipe_key
from prior_store.store import Store
from prior_store.testing.made import Promises, fill, latents_of, put_object, recipe_of


class ClaimPromises(Promises):
    """Work is done once, waited for, and gone on with."""

    def test_the_work_is_done_once(self, store: Store) -> None:
        worked = []

        def work(_: int) -> Commit:
            recipe = recipe_of(1)
            with store.claim("priors", recipe_key(recipe), ttl_s=20) as claim:
                if claim.commit is not None:
                    return claim.commit
                worked.append(1)
                fill(claim, 1)
                return claim.publish(recipe=recipe)

        with ThreadPoolExecutor(6) as pool:
            commits = list(pool.map(work, range(6)))
        assert len(worked) == 1
        assert all(commit == commits[0] for commit in commits)

    def test_waiting_is_told_and_ends(self, store: Store) -> None:
        key, told = recipe_key(recipe_of(1)), []
        with store.claim("priors", key, ttl_s=60):
            with pytest.raises(ClaimTimeoutError, match="still being made by process"):
                store.claim("priors", key, wait_s=0.2, on_wait=lambda who, s: told.append((who, s))).__enter__()
            with pytest.raises(ClaimCancelledError):
                store.claim("priors", key, cancel=lambda: True).__enter__()
        assert told

    def test_a_waiter_gets_what_the_holder_made(self, store: Store) -> None:
        recipe, waiting, answers = recipe_of(1), threading.Event(), []

        def wait() -> None:
            with store.claim("priors", recipe_key(recipe), on_wait=lambda _who, _s: waiting.set()) as claim:
                answers.append(claim.commit)

        with store.claim("priors", recipe_key(recipe), ttl_s=2) as claim:
            waiter = threading.Thread(target=wait)
            waiter.start()
            assert waiting.wait(30)
            commit = claim.publish(recipe=recipe)
        waiter.join(30)
        assert answers == [commit]

    def test_whole_leftovers_are_adopted(self, store: Store) -> None:
        recipe = recipe_of(1)
        key = recipe_key(recipe)
        with pytest.raises(RuntimeError, match="killed"), store.claim("priors", key) as claim:
            fill(claim, 1, steps=3)
            store.files.put(f"priors/{key[:2]}/{key}/{claim.attempt}/step_0003.safetensors", b"torn")
            raise RuntimeError("killed")
        with store.claim("priors", key) as claim:
            left = claim.leftover()
            assert list(left) == [0, 1, 2]
            claim.adopt(left)
            claim.put_tensors("step_0003.safetensors", {"latents": latents_of(4)})
            commit = claim.publish(recipe=recipe)
        assert list(commit.steps) == [0, 1, 2, 3]
        assert torch.equal(store.read_tensors(commit, "step_0002.safetensors")[0]["latents"], latents_of(3))

    def test_lease_files_go_with_the_commit(self, store: Store) -> None:
        commit = put_object(store, 1)
        names = store.files.names(commit_path("priors", commit.key).removesuffix(f"/{COMMIT}"))
        assert names == sorted([COMMIT, commit.attempt])
        assert store.files.size(claim_path("priors", commit.key, 1)) is None

    def test_a_torn_lease_is_told_and_its_removal_frees_the_key(self, store: Store) -> None:
        key = recipe_key(recipe_of(1))
        path = claim_path("priors", key, 1)
        store.files.put(path, b'{"nonce":')
        assert store.repair().actions == ()  # so a message must not send anybody there
        with pytest.raises(DamagedError, match=f"{path} is not a lease record .* remove that file"):
            store.claim("priors", key, wait_s=0).__enter__()
        store.files.remove(path)
        with store.claim("priors", key, wait_s=0) as claim:
            assert claim.commit is None
