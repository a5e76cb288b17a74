"""How each peer is started with the benchmark's model, each in an environment of its own."""
