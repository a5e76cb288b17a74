"""What the model registry is made of behind its one document a model: rules of a state, and what may be removed."""
