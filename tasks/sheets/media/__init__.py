"""Pictures and videos that a sheet names, opened within bounds."""
