"""Priors and variants under their keys: the lease, the attempt, the commit."""
