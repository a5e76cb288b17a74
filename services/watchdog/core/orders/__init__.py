"""What is asked of the rest of the platform, as values."""
