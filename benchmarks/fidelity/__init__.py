"""What a prior is worth: quality against the controls."""
