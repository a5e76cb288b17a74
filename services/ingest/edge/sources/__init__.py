"""Wires to where events are pulled from: one file a kind, and how one is opened."""
