"""Pictures of the demo: for the documentation and for the demo sheet."""
