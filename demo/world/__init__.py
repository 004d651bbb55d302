"""The demo's world: what can be seen in it, what is said about it, and the judge that knows the truth."""
