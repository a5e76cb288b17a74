"""Vibrations of motors from a stated generator: a network over series tells which bearing will fail."""
