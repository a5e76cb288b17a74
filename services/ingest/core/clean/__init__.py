"""Decisions on rows that were read: by event time, by content, and by the rows before them."""
