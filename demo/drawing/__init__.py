"""Programs that draw: the pictures of the documentation, of a training and of the demo sheet."""
