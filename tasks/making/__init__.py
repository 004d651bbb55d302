"""Making: one prior, one chunk of variants, their videos; devices and what is shared inside a process."""
