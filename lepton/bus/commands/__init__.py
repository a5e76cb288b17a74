"""Signed recovery commands as every process of a service reads and obeys them."""
