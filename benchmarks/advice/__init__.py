"""Whether what the product itself measures agrees with a judge that knows the truth."""
