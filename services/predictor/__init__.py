"""Answers prediction requests and scores feature streams with the models the registry names.

Reads: lepton-models, lepton-pipelines, lepton-features-*, API keys, model files; gRPC requests.
Writes: lepton-predictions-*, lepton-instances, lepton-telemetry.
"""
