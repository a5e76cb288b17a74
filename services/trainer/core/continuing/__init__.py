"""Runs that begin with the weights of a version: which one, what of it they take over, and what of that may change."""
