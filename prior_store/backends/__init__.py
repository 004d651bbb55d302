"""Bytes on some backend: local disk, memory, object storage."""
