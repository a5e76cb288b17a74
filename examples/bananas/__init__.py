"""A file into a model: river's Bananas, written as a CSV file and uploaded."""
