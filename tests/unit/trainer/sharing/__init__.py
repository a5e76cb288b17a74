"""A run by several processes."""
