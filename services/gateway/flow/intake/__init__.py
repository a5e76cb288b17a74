"""Rows that come in files, and rows that were refused."""
