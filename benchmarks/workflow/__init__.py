"""What the workflow costs beside the model."""
