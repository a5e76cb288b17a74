"""Finds what is wrong with data, models and processes, commands what heals it, and verifies that it did.

Reads: telemetry, instances, pipelines, models, quality, predictions, outcomes, training progress, recovery results.
Writes: lepton-recovery-commands, incidents and lepton-incidents, lepton-watchdog-journal, lepton-audit.
"""
