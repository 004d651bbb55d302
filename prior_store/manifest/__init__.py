"""The index: immutable Parquet fragments and their compacted union."""
