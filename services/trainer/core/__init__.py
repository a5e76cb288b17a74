"""What a training run decides and computes; no I/O: bytes and callbacks are handed in."""
