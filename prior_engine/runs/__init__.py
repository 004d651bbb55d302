"""One run: the walk through the scheduler window, its snapshots, what must match, where it starts and how it ends."""
