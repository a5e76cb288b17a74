"""Decisions of the gateway: rights, limits, routing, and what a request body means. No I/O."""
