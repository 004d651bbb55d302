"""Pages: the report of a batch and the page of a study."""
