"""One run by several processes: who does which share of a batch, and how they come to the same weights."""
