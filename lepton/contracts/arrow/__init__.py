"""Arrow streams: those from outside read within bounds, checked against a Pipeline, split by entity; predictions."""
