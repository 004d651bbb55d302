"""Graphs of work and the one driver that walks them; each kind of run says in its own file what its graph is."""
