"""The kinds of file that a sheet can be, one in each file: bytes or text in, raw rows out."""
