"""What becomes of a candidate that is tried: judged by what champion and candidate did side by side."""
