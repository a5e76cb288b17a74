"""Families that answer with neither a class nor a number."""
