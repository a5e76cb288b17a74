"""Readings of a plant's instruments: a network over a series tells which failure it is."""
