"""Texts through the pipeline's own text encoder, each distinct one once."""

from collections import OrderedDict
from collections.abc import Sequence

import torch

from prior_engine.loaded import calls as rules
from prior_engine.loaded.components import Components
from prior_engine.requests.conditioning import Conditioning, embedding_recipe
from prior_engine.requests.embeddings import Embedding

# Encoded prompts are megabytes each: enough are kept for the identity at hand and its neighbours.
_KEPT = 64


class Texts:
    """What the encoder made of the texts that it has seen."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._known: OrderedDict[tuple[str, int], dict[str, torch.Tensor]] = OrderedDict()

    def embeddings(self, conditionings: Sequence[Conditioning]) -> dict[tuple[str, str, int | None], Embedding]:
        return {told.texts: self.embedding(told) for told in conditionings}

    def embedding(self, told: Conditioning) -> Embedding:
        """The embedding of one conditioning; its text is encoded alone, so that companions change nothing."""
        info = self._components.info
        length = told.max_sequence_length or info.max_sequence_length
        return Embedding(
            prompt=self._encoded(told.prompt, length),
            negative=self._encoded(told.negative_prompt, length) if info.family.negative else {},
            recipe=embedding_recipe(info, told),
        )

    def _encoded(self, text: str, length: int) -> dict[str, torch.Tensor]:
        key = text, length
        if key not in self._known:
            self._components.need_text()
            self._known[key] = rules.encode_text(self._components.pipe, self._components.info, text, length)
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return self._known[key]
