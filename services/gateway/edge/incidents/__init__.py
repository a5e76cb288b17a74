"""REST routes about what happened: the audit log."""
