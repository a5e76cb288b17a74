"""Arrow streams that come from outside: read within bounds, checked against a Pipeline, split by entity."""
