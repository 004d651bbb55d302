"""Care of a store: verify, repair, collect, import."""
