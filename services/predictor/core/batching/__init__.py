"""Which waiting requests run together, in which order, and when."""
