"""The demo model that ships with Headstart: a small world, its judge, and a model trained on it."""
