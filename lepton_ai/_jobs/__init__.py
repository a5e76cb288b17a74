"""Whole files and data sets answered by a model, in parts that survive a kill."""
