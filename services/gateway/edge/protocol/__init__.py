"""Beside inference: the protocol's REST routes for operators, and what tensors in shared memory look like in JSON."""
