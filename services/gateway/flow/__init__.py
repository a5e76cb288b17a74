"""What the gateway does, by noun: access, pipelines, data, predictions, models, operations; `gateway.py` holds all."""
