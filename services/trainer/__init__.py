"""Turns stored rows and their outcomes into measured, signed ONNX models; owner of the model registry.

Reads: lepton-pipelines, lepton-training-commands, recovery commands, segments; lepton-instances, predictions, outcomes.
Writes: lepton-models, lepton-training-progress, recovery results, runs, artefacts.
"""
