"""Backups of a stack: taken, kept, checked, and brought back."""
