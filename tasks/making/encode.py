"""Prompts to embeddings, each distinct one once, kept in the store for every later batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.context import Context
from tasks.errors import InterruptedBatchError
from tasks.making.devices import Lease
from tasks.making.runtime import Runtime, runtime_for
from tasks.result import Result

if TYPE_CHECKING:
    from prior_engine import Conditioning, Embedding

log = logging.getLogger("headstart")
# The name of this work in a graph.
PROMPTS = "prompts"
Embeddings = Mapping[tuple[str, str, int | None], "Embedding"]


def embeddings_for(conditionings: Sequence[Conditioning], lease: Lease, runtime: Runtime) -> Embeddings:
    """Embeddings by `Conditioning.texts`, from the store where it has them."""
    from prior_engine.requests.embeddings import Embedding
    from prior_store import recipe_key

    distinct = {one.texts: one for one in conditionings}
    found: dict[tuple[str, str, int | None], Any] = {}
    missing = {}
    for texts, one in distinct.items():
        key = recipe_key({"kind": "embedding", "version": 1, **lease.engine.embedding_recipe(one)})
        kept = _kept(runtime, key)
        if kept is None:
            missing[texts] = (key, one)
        else:
            found[texts] = Embedding.from_parts(*kept)
    if missing:
        made = lease.engine.encode([one for _, one in missing.values()])
        for texts, (key, _) in missing.items():
            runtime.store.put_embedding(key, made[texts].tensors(), made[texts].metadata())
            found[texts] = made[texts]
    return found


def _kept(runtime: Runtime, key: str) -> Any:
    """What the store has; a damaged one counts as missing, since it is made again from the text alone."""
    from prior_store.errors import DamagedError

    try:
        return runtime.store.get_embedding(key)
    except DamagedError as error:
        log.warning("a text is encoded again: %s", error)
        return None


def encode_prompts(works: tuple[Sequence[Conditioning], ...], context: Context) -> list[Result]:
    """Have the embeddings of all distinct prompts in the store, then give the text encoder's memory back."""
    runtime = runtime_for(context)
    if runtime.stop.is_set():
        raise InterruptedBatchError("the batch was asked to stop")
    with runtime.lease() as lease:
        for conditionings in works:
            embeddings_for(conditionings, lease, runtime)
        lease.engine.free("text_encoder")
    return [Result(id=PROMPTS, kind=PROMPTS, key=PROMPTS, status="done")]
