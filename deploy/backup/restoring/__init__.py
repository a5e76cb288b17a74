"""Bringing a backup back, also with the events that came after it."""
