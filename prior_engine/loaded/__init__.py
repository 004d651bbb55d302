"""A model in memory: its parts, how they are called, what is put on them."""
