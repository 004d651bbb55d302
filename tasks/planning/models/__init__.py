"""The model of a batch: where it lies, whether it is whole, what it wears."""
