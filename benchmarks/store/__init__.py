"""How quick the store is, and its laws under load."""
