"""Whom this process calls."""
