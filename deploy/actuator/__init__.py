"""Starts, stops and scales the other processes, and nothing else may.

Reads lepton-recovery-commands; writes lepton-recovery-results, lepton-telemetry and lepton-instances.
"""
