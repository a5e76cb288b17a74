"""Stream scoring: features batches in, predictions out, beside a loop that only reads and writes those batches."""
