"""The demo's model: its nets, its training, its weights."""
