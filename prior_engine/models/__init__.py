"""What a model's files say about it: family, sizes, fingerprint. No torch, no weights."""
