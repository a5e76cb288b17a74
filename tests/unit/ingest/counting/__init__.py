"""Counts and sketches of data quality."""
