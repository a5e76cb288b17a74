"""The predictor's wires: gRPC in; registry, pipelines and features in; predictions out."""
