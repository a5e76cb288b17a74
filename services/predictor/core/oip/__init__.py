"""What the Open Inference Protocol asks beyond answers: statistics of a version, its configuration, its classes."""
