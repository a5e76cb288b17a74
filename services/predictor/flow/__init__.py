"""What the predictor does, by noun: access (who may ask), library (which versions are here), predictor (answers)."""
