"""What is asked of the engine: identity, conditioning, schedule. Frozen values, no torch."""
