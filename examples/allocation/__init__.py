"""Whom to give what is scarce: learnt from what was done before, and judged by the log before it is let loose."""
