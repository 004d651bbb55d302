"""Planning: which keys the rows stand for, and what the store lacks. No weights, no device."""
