"""Whose rows are whose, by keys alone."""
