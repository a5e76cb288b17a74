"""Turns raw events into typed, deduplicated, labelled rows, one transaction a batch, and keeps them as segments.

Reads: lepton-events-*, lepton-labels-*, lepton-ingest-state-*, lepton-pipelines, lepton-models, commands.
Writes: lepton-features-*, lepton-outcomes-*, lepton-quality-*, lepton-ingest-state-*, dead letters, stored rows.
"""
