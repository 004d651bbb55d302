"""How many tokens a prompt has, counted by the model's own tokenizer before any weights are read.

Pipelines cut a longer prompt off without an error; whoever wrote it would only wonder about the video.
"""

from prior_engine.models.info import ModelInfo


class PromptLength:
    """Finds the prompts that are longer than what the model's text encoder takes."""

    def __init__(self, info: ModelInfo, limit: int | None = None) -> None:
        self.limit = limit or info.max_sequence_length
        self.unknown: str | None = None
        """Why nothing can be counted, if so."""
        self._cleans = info.family.cleans_prompt
        self._counts: dict[str, int] = {}
        file = info.layout.place(info.family.tokenizer) / "tokenizer.json"
        if not file.is_file():
            self.unknown = f"the model has no {info.family.tokenizer}/tokenizer.json to count tokens with"
            return
        # transformers brings this package along; it needs neither it nor torch.
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as problem:  # noqa: BLE001 - the package raises nothing more exact
            self.unknown = f"{info.family.tokenizer}/tokenizer.json cannot be read ({problem})"
            return
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def over(self, text: str) -> int | None:
        """Count the tokens of a text that has too many; None for one that fits, or where nothing can be counted."""
        # No tokenizer makes more tokens than bytes, and an end mark or two.
        if self.unknown or len(text.encode()) + 2 <= self.limit:
            return None
        if text not in self._counts:
            told = " ".join(text.split()) if self._cleans else text
            self._counts[text] = len(self._tokenizer.encode(told).ids)
        return self._counts[text] if self._counts[text] > self.limit else None
