"""Faults brought to a running stack from outside, by plan: what was struck, seen, done and lost; see docs/chaos.md."""
