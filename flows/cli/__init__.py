"""The command line: a file a group of verbs. Nothing imports it but `python -m flows.cli`."""
