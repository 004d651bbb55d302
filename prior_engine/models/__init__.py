"""Which model, where it lies, and what its files say about it: family, sizes, fingerprint. No torch, no weights."""
