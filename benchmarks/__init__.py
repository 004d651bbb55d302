"""Where every figure of the documentation comes from."""
