"""What is asked of the engine, and how a run is to be run: frozen values; importing them needs no torch."""
