"""Answers prediction requests and scores feature streams with the models the registry names.

Reads: lepton-models, lepton-pipelines, lepton-features-*, lepton-recovery-commands, lepton-instances, keys, model
files; gRPC requests.
Writes: lepton-predictions-*, lepton-recovery-results, lepton-instances, lepton-telemetry.
"""
