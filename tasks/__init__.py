"""Tasks: one step of a batch each; convert, call, convert."""
