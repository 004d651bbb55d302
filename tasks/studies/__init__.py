"""Studies: measure on a few pairs which start step and tail to use."""
