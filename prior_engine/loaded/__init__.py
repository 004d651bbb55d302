"""A model in memory: its parts, how they are called, what is put on them, which memory and switches they need."""
