"""Which topics this process writes and reads."""
