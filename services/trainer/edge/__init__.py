"""The trainer's wires: commands in, recovery commands in, announced pipelines in, run processes out."""
