"""How good answers and rows are: predictions joined with outcomes, a stated test of chance, shares of bad rows."""
