"""What stands in for missing values beyond constants."""
