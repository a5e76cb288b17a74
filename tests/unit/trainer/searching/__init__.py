"""Looking for family and parameters."""
