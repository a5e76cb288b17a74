"""What a partition works out from what it remembers: each step adds to a batch and keeps state of its own."""
