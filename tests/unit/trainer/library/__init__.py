"""Versions as files: exported, and imported."""
