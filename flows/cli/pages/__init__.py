"""What the command line prints of a store: its list and the page of one object."""
