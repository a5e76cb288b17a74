"""Windows: aggregates over an entity's events by event time, worked out as part of the accept stage's batch."""
