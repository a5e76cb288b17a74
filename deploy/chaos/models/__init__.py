"""Models that are a fault: made of the flow's own rows, and brought in by the doors that people use."""
