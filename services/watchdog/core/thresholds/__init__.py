"""Thresholds as data."""
