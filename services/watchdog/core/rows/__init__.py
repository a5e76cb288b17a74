"""What is usual of the rows of each pipeline."""
