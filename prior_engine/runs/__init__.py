"""One run: the walk through the scheduler window, its snapshots, where it may start and how it ends."""
