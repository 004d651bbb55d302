"""Sheets: from a file of any kind to exact rows, or to every mistake in it at once."""
