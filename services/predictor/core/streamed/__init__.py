"""What becomes of the rows of a stream that is scored."""
