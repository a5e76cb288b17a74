"""Learning from a stream: rows learnt once, in order, each answered before its label is seen."""
