"""REST routes about what happened: incidents, and the audit log."""
