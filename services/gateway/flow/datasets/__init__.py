"""Data sets: what is stored of a pipeline, read, profiled, split, written out, and asked to change."""
