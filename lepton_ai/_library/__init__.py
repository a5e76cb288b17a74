"""Versions that leave the platform as a file."""
