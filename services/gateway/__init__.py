"""The REST door and policy point: who may do what, how often, and which predictor answers.

Reads: lepton-pipelines, lepton-models, lepton-instances; API keys, runs, incidents, dependencies,
stored rows; HTTP requests.
Writes: pipelines, keys, lepton-pipelines, lepton-events-*, lepton-labels-*, commands, lepton-audit; HTTP answers.
"""
