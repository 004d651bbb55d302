"""What the engine costs beside a plain pipeline."""
